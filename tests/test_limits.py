"""The table of limits, and the scripts that inspect kernels: rows are well formed, a quick run completes, operations are counted."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jitloss
from jitloss import bench
from jitloss.bench.kernels import BareCall, counted_operations
from jitloss.bench.limits import GROUPS, ROWS, chosen
from jitloss.bench.limits.rows import computes_exp

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Rows -------------------------------------------------------------------------------------------------------------------------


def test_rows_are_well_formed():
    assert {row.group for row in ROWS} == set(GROUPS)
    assert len({(row.group, row.name) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        names = [goal.against for goal in row.goals]
        assert names, row
        assert len(set(names)) == len(names), row
        assert all(goal.limit > 0 for goal in row.goals), row


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert script("limits").main(["--only", "call", "--json", str(tmp_path / "file" / "x")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_every_pointwise_loss_has_a_row():
    named = {row.name.split()[0] for row in ROWS if row.group in ("pointwise", "transcendental")}
    assert named == {name for name, loss in jitloss.LOSSES.items() if loss.definition.form == "pointwise"}


@pytest.mark.parametrize(("name", "does"), [
    ("mse_loss", False), ("huber_loss", False), ("hinge_loss", False), ("elastic_net", False),
    ("log_cosh_loss", True), ("poisson_nll_loss", True), ("focal_loss", True), ("binary_cross_entropy_with_logits", True),
])  # fmt: skip
def test_who_computes_exp(name, does):
    assert computes_exp(jitloss.LOSSES[name].definition) is does


def test_chosen_rows():
    assert chosen([]) == ROWS
    assert {row.group for row in chosen(["short"])} == {"short"}
    assert [row.group for row in chosen(["4096×32000, float16"])] == ["half"]
    with pytest.raises(ValueError, match=r"no row matches nothing; the groups are pointwise, "):
        chosen(["nothing"])


def test_what_is_missing_is_not_measured(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    row = chosen(["short"])[0]
    assert row.missing(["JAX"]) == "jax"
    assert row.figures(quick=True, rounds=1) == {}


@pytest.mark.parametrize("group", ["alignment", "in-place", "options"])
def test_figures_of_a_row(group):
    row = chosen([group])[0]
    figures = row.figures(quick=True, rounds=1)
    assert list(figures) == [goal.against for goal in row.goals]
    assert all(0.0 < figure < np.inf for figure in figures.values())


def test_a_quick_run(tmp_path, capsys):
    file = tmp_path / "report.json"
    assert script("limits").main(["--quick", "--only", "mse_loss 10M, odd size", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "mse_loss 10M, odd size" in shown
    assert "of 1 goals reached" in shown
    (row,) = json.loads(file.read_text())["rows"]
    (goal,) = row["goals"]
    assert (row["group"], goal["against"], goal["limit"]) == ("alignment", "aligned", 1.1)
    assert goal["measured"] > 0.0


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--write", "--quick"], ["--rounds", "-1"], ["--json", "no/such/file"]])
def test_bad_arguments(words, capsys):
    assert script("limits").main(words) == 2
    assert capsys.readouterr().err.startswith("limits.py: ")


# Kernels ----------------------------------------------------------------------------------------------------------------------


def test_operations_are_counted():
    """Error, its square, the slope, the scale and the sum: about six per element, plus those once per tile."""
    call = BareCall(jitloss.mse_loss, bench.inputs_for(jitloss.mse_loss.definition, (19_200,)))
    assert 5.0 <= counted_operations(call) / 19_200 < 7.0


def test_loops_of_a_kernel(capsys):
    assert script("kernel_code").main(["mse_loss:1000"]) == 0
    shown = capsys.readouterr().out
    assert "layout 'flat'" in shown
    assert len(shown.splitlines()) > 2


def test_loops_are_found():
    text = "\n".join(
        ["kernel:", ".LBB0_1:", "\tone", ".LBB0_2:", "\ttwo", "\tjne\t.LBB0_2", "\tjne\t.LBB0_1", "\tje\t.LBB0_3", ".LBB0_3:"]
    )
    assert list(script("kernel_code").loops(text)) == [(".LBB0_2", ["\ttwo", "\tjne\t.LBB0_2"])]
