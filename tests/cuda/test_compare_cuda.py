"""The table of benchmarks/compare_cuda.py, made of invented times; nothing here needs a device."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "compare_cuda.py"


@pytest.fixture
def compare(tmp_path, monkeypatch) -> Any:
    """The script, with a page of its own."""
    spec = importlib.util.spec_from_file_location("compare_cuda", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = tmp_path / "cuda.md"
    page.write_text(
        f"# CUDA\n\n{module.MEASURED.begin}\n{module.NOTHING_MEASURED}\n{module.MEASURED.end}\n\nThe rest.\n", encoding="utf-8"
    )
    monkeypatch.setattr(module, "MEASURED", module.MEASURED._replace(page=page))
    monkeypatch.setattr(module, "obstacle", lambda: "no device")
    return module


def row(compare: Any, shape: tuple[int, ...], **seconds: float) -> Any:
    size = compare.Size("cross_entropy_with_logits" if len(shape) > 1 else "mse_loss", shape, "float32")
    return compare.Row(size, {name: [one, 1.01 * one, 0.99 * one] for name, one in seconds.items()})


def report(compare: Any, host: float = 15e-6) -> Any:
    rows = [
        row(compare, (8192, 4096), jitloss=1e-4, copy=0.92e-4, PyTorch=2.9e-4, Liger=4e-4, **{"torch.compile": 1.8e-4}),
        row(compare, (4096, 128256), jitloss=2e-3, copy=1.3e-3, PyTorch=9e-3),
        row(compare, (65536, 10), jitloss=5e-6, copy=3e-6, PyTorch=26e-6),
        row(compare, (2**28,), jitloss=1.5e-3, copy=0.95e-3),
    ]
    return compare.Report(rows, host, {"device": "an invention", "date": "2026-11-25"})


def test_lines(compare):
    first, longest, short, mse, host = compare.lines(report(compare))
    speed = 2 * 4 * 8192 * 4096 / 1e-4 / 1e9
    assert first == [
        "cross_entropy_with_logits 8192×4096", "float32", "100 µs", f"{speed:.0f}",
        "92 % ✓ ≥ 90 %", "2.90× ✗ ≥ 3", "1.80× ✓ ≥ 1.7", "4.00×",
    ]  # fmt: skip
    assert longest[2:] == ["2 ms", "2101", "65 % ✗ ≥ 70 %", "4.50× ✓ ≥ 3", "–", "–"]
    assert short[2:] == ["5 µs", "1049", "60 %", "5.20× ✓ ≥ 5", "–", "–"]
    assert mse[0] == "mse_loss 256M"
    assert mse[4] == "95 % ✓ ≥ 92 %", "three arrays of ours against the copy's two"
    assert host[2] == "15 µs ✓ ≤ 20 µs"
    assert list(compare.lines(report(compare, 30e-6)))[-1][2] == "30 µs ✗ ≤ 20 µs"


def test_every_size_of_the_issue_is_measured(compare):
    assert len(compare.SIZES) == 18
    goals = {(size.shape[-1], size.dtype): size.goals() for size in compare.SIZES}
    for dtype in ("bfloat16", "float32"):
        for columns in (4096, 8192, 16384, 32000):
            assert goals[columns, dtype] == {"copy": 90, "torch.compile": 1.7, "PyTorch": 3}
        assert goals[128256, dtype]["copy"] == 70
        assert goals[2**28, dtype] == {"copy": 92}
        assert goals[10, dtype] == {"PyTorch": 5}


def test_table_for_a_page(compare, capsys):
    table = compare.markdown(report(compare))
    rows = [text for text in table.splitlines() if text.startswith("|")]
    assert len(rows) == 2 + 5
    assert len({text.count("|") for text in rows}) == 1
    assert "Measured here: device: an invention; date: 2026-11-25." in table
    compare.show(report(compare))
    assert "92 % ✓ ≥ 90 %" in capsys.readouterr().out


def test_writing(compare, monkeypatch, capsys):
    monkeypatch.setattr(compare, "obstacle", lambda: None)
    monkeypatch.setattr(compare, "run", lambda quick, rounds: report(compare))
    assert compare.main(["--write"]) == 0
    written = compare.MEASURED.page.read_text(encoding="utf-8")
    assert written.startswith(f"# CUDA\n\n{compare.MEASURED.begin}\n| value and gradient |")
    assert written.endswith(f"\n{compare.MEASURED.end}\n\nThe rest.\n")
    assert compare.NOTHING_MEASURED not in written
    assert compare.main(["--write", "--quick"]) == 2
    assert compare.main(["--rounds", "-1"]) == 2
    assert capsys.readouterr().err.count("compare_cuda.py: ") == 2


def test_without_a_device(compare, capsys):
    before = compare.MEASURED.page.read_text(encoding="utf-8")
    assert compare.main([]) == 1
    assert compare.main(["--write"]) == 0
    assert compare.MEASURED.page.read_text(encoding="utf-8") == before
    assert "no device: nothing is measured" in capsys.readouterr().err


def test_figures_are_not_overwritten_without_a_device(compare, capsys):
    compare.fill(compare.markdown(report(compare)))
    figures = compare.MEASURED.page.read_text(encoding="utf-8")
    assert compare.main(["--write"]) == 2
    assert compare.MEASURED.page.read_text(encoding="utf-8") == figures
    assert "stays as it is" in capsys.readouterr().err


def test_a_page_without_markers(compare, capsys):
    compare.MEASURED.page.write_text("# CUDA\n", encoding="utf-8")
    assert compare.main(["--write"]) == 2
    assert "once each" in capsys.readouterr().err
