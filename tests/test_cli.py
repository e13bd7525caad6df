"""The command line: what it prints, what it writes, and how it fails."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, PARAMETERS, agree, draw, is_binary, weights
from jitloss import cli
from jitloss.commands import blocks, evaluate, files, info

# One call and many blocks: the same numbers -------------------------------------------------------------------------------------


def flags(options: dict[str, Any], folder: Path) -> list[str]:
    """Options of a call as they are written on the command line; arrays become files."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, np.ndarray):
            np.save(folder / f"{name}.npy", value)
            words += [f"--{flag}", str(folder / f"{name}.npy")]
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words


def saved(inputs: list[Any], folder: Path) -> list[str]:
    paths = [str(folder / f"input{position}.npy") for position in range(len(inputs))]
    for path, array in zip(paths, inputs, strict=True):
        np.save(path, array)
    return paths


def written(loss: Any, folder: Path) -> Any:
    """The gradient files as a call returns the gradient."""
    names = [one.name for one in loss.definition.differentiable]
    if len(names) == 1:
        return np.load(folder / "gradient.npy")
    return {name: np.load(folder / f"gradient.{name}.npy") for name in names}


def same(got: Any, wanted: Any) -> None:
    """The same but for the last bits: the blocks' loops begin and end elsewhere."""
    pairs = [(got[name], wanted[name]) for name in wanted] if isinstance(wanted, dict) else [(got, wanted)]
    for one, other in pairs:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        eps, largest = float(np.finfo(other.dtype).eps), float(np.max(np.abs(other), initial=0.0))
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=3 * eps, atol=3 * eps * largest)


def check(loss: Any, inputs: list[Any], options: dict[str, Any], folder: Path, capsys: Any) -> None:
    """The command against one call: value, gradient, and nothing left behind."""
    words = ["evaluate", loss.__name__, *saved(inputs, folder), *flags(options, folder)]
    value, gradient = loss.value_and_gradient(*inputs, **options)
    assert cli.main([*words, "--gradient", str(folder / "gradient.npy")]) == 0
    shown, complaints = capsys.readouterr()
    assert complaints == ""
    assert repr(float(shown)) == shown.strip()
    assert float(shown) == pytest.approx(value, rel=1e-12, abs=1e-300)
    same(written(loss, folder), gradient)
    assert not list(folder.glob("*.part"))
    if not options:  # the value alone, from a kernel of its own
        assert cli.main(words) == 0
        assert float(capsys.readouterr().out) == pytest.approx(loss(*inputs), rel=1e-12, abs=1e-300)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few elements, and pages that are given back after each of them."""
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.setattr(files.NewArray, "DIRTY", 1)


def option_sets(case: Any, items: tuple[int, ...], columns: int) -> list[dict[str, Any]]:
    """Each option at least once, alone or with those that it works together with."""
    known, sets = case.loss.__signature__.parameters, [{}, *PARAMETERS.get(case.name, [])[-1:]]
    if "reduction" in known:
        sets += [{"reduction": "sum"}, {"normalizer": 7.5}, {"sample_weight": weights(items), "normalizer": "weights"}]
    if "class_weight" in known:
        pair = np.array([0.5, 2.0]) if is_binary(case) else np.linspace(0.5, 2.0, columns)
        sets += [{"class_weight": pair, "normalizer": "weights", "sample_weight": weights(items)}]
        sets += [{"class_weight": "balanced", "normalizer": "weights"}]
    if "pos_weight" in known:
        sets += [{"pos_weight": "balanced"}]
    if "label_smoothing" in known:
        sets += [{"label_smoothing": 0.1}]
    if case.labels:
        sets += [{"ignore_index": 2, "normalizer": "weights"}]
    return sets


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_blocks_give_what_one_call_gives(case, tmp_path, capsys):
    shape = case.shape
    inputs = draw(case, shape, "float64", ignored=True)
    assert len(blocks.Whole(case.loss.definition, _named(case, inputs)).cuts) > 2
    for options in option_sets(case, shape[:1], shape[-1]):
        given = list(inputs)
        if is_binary(case) and any(isinstance(value, str) and value == "balanced" for value in options.values()):
            given[1] = np.round(given[1])  # 0 or 1
        if "ignore_index" in options:
            given[1] = np.where(given[1] == -100, options["ignore_index"], given[1])
        check(case.loss, given, options, tmp_path, capsys)


def _named(case: Any, inputs: list[Any]) -> dict[str, Any]:
    return {one.public: array for one, array in zip(case.loss.definition.inputs, inputs, strict=True)}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["mse_loss", "cross_entropy_with_logits", "contrastive_loss"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_dtypes(name, dtype, tmp_path, capsys):
    case = next(case for case in CASES if case.name == name)
    inputs = draw(case, case.shape, dtype)
    words = ["evaluate", name, *saved(inputs, tmp_path), "--gradient", str(tmp_path / "gradient.npy")]
    value, gradient = case.loss.value_and_gradient(*inputs)
    assert cli.main(words) == 0
    agree(float(capsys.readouterr().out), value, "float32")  # blocks of 16 elements: float32 sums of another order
    same(written(case.loss, tmp_path), gradient)


ARRANGED = {
    "Fortran order": lambda array: np.asfortranarray(array),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "integers": lambda array: np.round(2 * array).astype(np.int16),
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
@pytest.mark.parametrize("name", ["mse_loss", "cross_entropy_with_logits"])
def test_other_arrangements(name, arrange, tmp_path, capsys):
    case = next(case for case in CASES if case.name == name)
    check(case.loss, [arrange(one) for one in draw(case, (12, 9))], {}, tmp_path, capsys)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_any_axis(axis, labels, tmp_path, capsys):
    case = next(case for case in CASES if case.name == "cross_entropy_with_logits" and case.labels == labels)
    inputs = draw(case, (5, 4, 6), axis=axis, ignored=labels)
    items = tuple(np.delete((5, 4, 6), axis))
    for weight in (weights(items), weights(items[:1])):
        options = {"axis": axis, "sample_weight": weight, "normalizer": "weights", "class_weight": "balanced"}
        check(case.loss, inputs, options, tmp_path, capsys)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", [(), (1,), (0,), (1, 100), (100, 1), (3, 0), (2, 3, 50), (1, 1, 1, 40)])
def test_any_shape(shape, tmp_path, capsys):
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape), random.standard_normal(shape)]
    check(jitloss.mse_loss, inputs, {}, tmp_path, capsys)
    check(jitloss.mse_loss, inputs, {"sample_weight": np.full(shape[:1], 0.5), "normalizer": "weights"}, tmp_path, capsys)


@pytest.mark.parametrize("shape", [(), (7,), (0,), (3, 0), (0, 3)])
def test_any_shape_of_a_row(shape, tmp_path, capsys):
    if shape:
        random = np.random.default_rng(0)
        check(jitloss.kl_divergence, [random.random(shape), random.random(shape)], {}, tmp_path, capsys)
    else:
        complains(
            ["evaluate", "kl_divergence", *saved([np.array(1.0)] * 2, tmp_path)], "kl_divergence: axis -1 is out of range", capsys
        )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("options", [{}, {"sample_weight": np.zeros(33)}], ids=["ignored", "weightless"])
def test_where_nothing_counts_all_is_zero(options, tmp_path, capsys):
    labels = np.full(33, -100) if not options else np.zeros(33, np.int64)
    inputs = [np.ones((33, 7)), labels]
    check(jitloss.cross_entropy_with_logits, inputs, {"normalizer": "weights", **options}, tmp_path, capsys)
    assert not written(jitloss.cross_entropy_with_logits, tmp_path).any()


@pytest.mark.parametrize("shape", [(30_001, 10), (250_000,), (64, 1024, 4)])
@pytest.mark.parametrize("name", ["mse_loss", "cross_entropy_with_logits"])
def test_blocks_begin_where_chunks_do(name, shape, tmp_path, capsys, monkeypatch):
    """So that float32 sums are the same, and a value is that of one call within the rounding of float64."""
    if name != "mse_loss" and len(shape) == 1:
        shape = (25_000, 10)
    monkeypatch.setattr(blocks, "BLOCK", 100_000)
    case = next(case for case in CASES if case.name == name)
    inputs = draw(case, shape, "float32")
    assert len(blocks.Whole(case.loss.definition, _named(case, inputs)).cuts) > 1
    check(case.loss, inputs, {}, tmp_path, capsys)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty and not case.labels], ids=repr)
def test_values_of_the_items(case, tmp_path, capsys):
    inputs = draw(case, case.shape)
    words = ["evaluate", case.name, *saved(inputs, tmp_path), "--reduction", "none", "--values", str(tmp_path / "values.npy")]
    value, gradient = case.loss.value_and_gradient(*inputs, reduction="none")
    assert cli.main([*words, "--gradient", str(tmp_path / "gradient.npy")]) == 0
    assert capsys.readouterr() == ("", "")
    same(np.load(tmp_path / "values.npy"), value)
    same(written(case.loss, tmp_path), gradient)


@pytest.mark.usefixtures("small_blocks")
def test_only_values_or_only_the_gradient_of_the_items(tmp_path, capsys):
    inputs = draw(CASES[0], (33,))
    words = ["evaluate", CASES[0].name, *saved(inputs, tmp_path), "--reduction", "none"]
    value, gradient = CASES[0].loss.value_and_gradient(*inputs, reduction="none")
    assert cli.main([*words, "--values", str(tmp_path / "values.npy")]) == 0
    same(np.load(tmp_path / "values.npy"), value)
    assert cli.main([*words, "--gradient", str(tmp_path / "gradient.npy")]) == 0
    same(np.load(tmp_path / "gradient.npy"), gradient)
    assert capsys.readouterr() == ("", "")


# What is written ------------------------------------------------------------------------------------------------------------------


def pair(folder: Path, rows: int = 30) -> list[str]:
    random = np.random.default_rng(0)
    return saved([random.standard_normal((rows, 4)), random.integers(0, 4, rows)], folder)


def older(folder: Path) -> Path:
    path = folder / "gradient.npy"
    np.save(path, np.arange(3))
    return path


def survives(path: Path) -> bool:
    return np.array_equal(np.load(path), np.arange(3)) and not list(path.parent.glob("*.part"))


def test_an_older_file_is_replaced_and_keeps_its_mode(tmp_path, capsys):
    out = older(tmp_path)
    out.chmod(0o640)
    assert cli.main(["evaluate", "cross_entropy_with_logits", *pair(tmp_path), "--gradient", str(out)]) == 0
    assert np.load(out).shape == (30, 4)
    assert out.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        assert cli.main(["evaluate", "l2_regularization", pair(tmp_path)[0], "--gradient", str(tmp_path / "new.npy")]) == 0
    finally:
        os.umask(before)
    assert (tmp_path / "new.npy").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link.npy", older(tmp_path / "far")
    link.symlink_to(target)
    assert cli.main(["evaluate", "l2_regularization", pair(tmp_path)[0], "--gradient", str(link)]) == 0
    assert link.is_symlink()
    assert np.load(target).shape == (30, 4)


def test_of_several_files_none_takes_its_name_before_all_are_complete(tmp_path, monkeypatch):
    inputs = saved([np.ones((5, 3))] * 3, tmp_path)
    names = [tmp_path / f"gradient.{name}.npy" for name in ("anchor", "positive", "negative")]
    for name in names:
        np.save(name, np.arange(3))
    complete = files.NewArray.complete

    def fail_at_the_last(file):
        complete(file)
        if file.path == names[-1]:
            raise files.CommandError("no space left on device")

    monkeypatch.setattr(files.NewArray, "complete", fail_at_the_last)
    assert cli.main(["evaluate", "triplet_loss", *inputs, "--gradient", str(tmp_path / "gradient.npy")]) == 2
    assert all(survives(name) for name in names)


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path, capsys, monkeypatch):
    out, inputs = older(tmp_path), pair(tmp_path, 1000)
    monkeypatch.setattr(blocks.Whole, "run", None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        complains(["evaluate", "cross_entropy_with_logits", *inputs, "--gradient", str(out)], "cannot write --gradient", capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert survives(out)


# Killed in the middle -------------------------------------------------------------------------------------------------------------

SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
import jitloss.cli, jitloss.commands.blocks as blocks
blocks.BLOCK = 16
run = blocks.Block.run
def slow(self):
    result = run(self)
    result.gradient.finish()
    print("a block is written", flush=True)
    time.sleep(0.05)
    return result
blocks.Block.run = slow
sys.exit(jitloss.cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("SIGINT", 130, "jitloss evaluate: interrupted\n"), ("SIGTERM", 143, "jitloss evaluate: terminated\n"), ("SIGKILL", -9, "")],
)
def test_a_killed_run_leaves_the_older_file(name, code, message, tmp_path):
    out, inputs = older(tmp_path), pair(tmp_path, 2000)
    command = [sys.executable, "-c", SLOW, "evaluate", "cross_entropy_with_logits", *inputs, "--gradient", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            assert process.stdout.readline() == "a block is written\n"
        assert len(list(tmp_path.glob("*.part"))) == 1
        process.send_signal(getattr(signal, name))
        assert process.wait(30) == code
        assert process.stderr.read() == message
    for left in tmp_path.glob("*.part"):
        assert name == "SIGKILL"  # which runs no code of ours
        left.unlink()
    assert survives(out)


def test_signals_that_others_handle_stay_theirs():
    interrupt = signal.getsignal(signal.SIGINT)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert cli.main(["evaluate", "--help"]) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) == interrupt


# Files larger than memory -----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from jitloss.cli import main
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def run(inputs, out):
    assert main(["evaluate", "mse_loss", *inputs, "--gradient", out, "--sample-weight", inputs[0], "--normalizer", "weights"]) == 0
run(sys.argv[1:3], sys.argv[5])
before = peak()
run(sys.argv[3:5], sys.argv[5])
print(peak() - before)
"""


def test_memory_is_bounded(tmp_path):
    """Three files of 384 MB: none is ever in memory as a whole."""
    size, paths = 96_000_000, []
    for length in (5_000_000, size):
        for name in ("p", "t"):
            paths.append(str(tmp_path / f"{name}{length}.npy"))
            np.lib.format.open_memmap(paths[-1], "w+", np.float32, (length,))[-1] = 3.0 if name == "p" else 1.0
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *paths, str(tmp_path / "out.npy")], capture_output=True, text=True, check=True
    )
    _, value, growth = done.stdout.split()
    assert float(value) == pytest.approx(4.0)  # the only weight that is not 0 is that of the last element
    gradient = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert gradient.shape == (size,)
    assert (gradient[0], gradient[-1]) == (0.0, 4.0)
    assert int(growth) < 150e6


# Bad input --------------------------------------------------------------------------------------------------------------------------


def complains(words: list[str], message: str, capsys: Any) -> None:
    """Exit code 2, one readable line on stderr, nothing on stdout."""
    assert cli.main(words) == 2
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert complaint.startswith(f"jitloss {words[0]}: ")
    assert message in complaint
    assert complaint.endswith("\n")
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """A folder of files, most of them bad, as the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(blocks, "BLOCK", 16)
    random = np.random.default_rng(0)
    np.save("p.npy", random.standard_normal((30, 4)))
    np.save("labels.npy", random.integers(0, 4, 30))
    np.save("q.npy", random.random((30, 4)))
    labels = random.integers(0, 4, 30)
    labels[23] = 7
    np.save("bad_labels.npy", labels)
    np.save("soft_labels.npy", labels.astype(float))
    np.save("negative.npy", np.where(np.arange(30) == 21, -1.0, 1.0))
    np.save("three.npy", np.ones(3))
    np.save("words.npy", np.array(["a", "b"]))
    np.save("complex.npy", np.ones((30, 4), complex))
    np.save("objects.npy", np.array([{}, 1], object), allow_pickle=True)
    np.save("records.npy", np.zeros(4, [("x", "f8")]))
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save("unicode.npy", np.zeros(4, [("字", "f8")]))
    np.save("bfloat16.npy", np.zeros((30, 4), "V2"))
    np.save("scalar.npy", np.array(1.0))
    np.savez("archive.npz", p=np.ones(3))
    whole = Path("p.npy").read_bytes()
    Path("truncated.npy").write_bytes(whole[:-8])
    Path("header_only.npy").write_bytes(whole[:50])
    Path("huge.npy").write_bytes(
        whole[:128].replace(b"(30, 4), }" + b" " * 40, b"(" + b"9" * 18 + b", " + b"9" * 18 + b"), }" + b" " * 7)
    )
    Path("lies.npy").write_bytes(whole[:128].replace(b"(30, 4), }      ", b"(2**62, 4), }   "))
    Path("minus.npy").write_bytes(whole[:128].replace(b"(30, 4), } ", b"(-30, 4), }"))
    Path("empty.npy").write_bytes(b"")
    Path("text.npy").write_text("1 2 3\n")
    Path("folder.npy").mkdir()
    os.mkfifo("pipe.npy")
    np.save("out.npy", np.arange(3))
    os.link("p.npy", "hard_link.npy")
    return tmp_path


MSE, CE, BCE = (
    ["mse_loss", "p.npy", "q.npy"],
    ["cross_entropy_with_logits", "p.npy", "labels.npy"],
    "binary_cross_entropy_with_logits",
)

BAD = {
    "no such file": (["mse_loss", "nowhere.npy", "q.npy"], "cannot read predictions from 'nowhere.npy': no such file or directory"),
    "a folder": (["mse_loss", "folder.npy", "q.npy"], "predictions: 'folder.npy' is a folder"),
    "a pipe": (["mse_loss", "p.npy", "pipe.npy"], "targets: 'pipe.npy' is not a regular file"),
    "empty": (["mse_loss", "empty.npy", "q.npy"], "predictions: 'empty.npy' is empty"),
    "a text": (["mse_loss", "text.npy", "q.npy"], "predictions: 'text.npy' is not an .npy file"),
    "an archive": (["mse_loss", "archive.npz", "q.npy"], "'archive.npz' is not an .npy file; it looks like an .npz archive"),
    "truncated": (
        ["mse_loss", "p.npy", "truncated.npy"],
        "'truncated.npy' is truncated: it has 1080 bytes, an array (30, 4) of float64 takes 1088",
    ),
    "half a header": (["mse_loss", "header_only.npy", "q.npy"], "'header_only.npy' has a damaged .npy header"),
    "no numbers in the header": (["mse_loss", "lies.npy", "q.npy"], "'lies.npy' has a damaged .npy header"),
    "a negative size": (["mse_loss", "minus.npy", "q.npy"], "'minus.npy' has a damaged .npy header"),
    "a size beyond every disk": (["mse_loss", "huge.npy", "q.npy"], "'huge.npy' is truncated: it has 128 bytes, an array (9999"),
    "objects": (["mse_loss", "objects.npy", "q.npy"], "'objects.npy' holds Python objects, which are never unpickled"),
    "bfloat16": (["mse_loss", "bfloat16.npy", "q.npy"], "which is what NumPy writes for bfloat16; save it as float32 or float16"),
    "words": (["mse_loss", "words.npy", "q.npy"], "mse_loss: predictions must be float16, bfloat16, float32, float64 or integers"),
    "complex": (["mse_loss", "p.npy", "complex.npy"], "mse_loss: targets must hold numbers or bools, got the dtype complex128"),
    "records": (["mse_loss", "records.npy", "q.npy"], "mse_loss: predictions must be float16, bfloat16, float32, float64 or integers"),
    "named in Unicode": (["mse_loss", "unicode.npy", "q.npy"], "'unicode.npy' has version 3.0 of the .npy format"),
    "an unknown loss": (["mse_los", "p.npy", "q.npy"], "no loss is called 'mse_los'; did you mean mse_loss"),
    "half a name": (["entropy", "p.npy", "q.npy"], "did you mean cross_entropy_loss or "),
    "nothing like a loss": (["xyz", "p.npy", "q.npy"], "no loss is called 'xyz'; there are mse_loss, l1_loss, "),
    "nothing": ([], "the following arguments are required: LOSS"),
    "a file too few": (["triplet_loss", "p.npy", "q.npy"], "the following arguments are required: NEGATIVES.npy"),
    "a file too many": (["mse_loss", "p.npy", "q.npy", "p.npy"], "unrecognized arguments: p.npy"),
    "other shapes": (["mse_loss", "p.npy", "three.npy"], "predictions and targets must have the same shape; got predictions (30, 4)"),
    "a scalar": (["cross_entropy_loss", "scalar.npy", "labels.npy"], "cross_entropy_loss: axis -1 is out of range"),
    "a bad label": (
        ["cross_entropy_with_logits", "p.npy", "bad_labels.npy"],
        "targets[23] (row 23) is 7, wanted a class from 0 to 3 or ignore_index, -100",
    ),
    "a bad label, no ignored ones": (
        ["cross_entropy_loss", "q.npy", "bad_labels.npy", "--ignore-index", "none"],
        "targets[23] (row 23) is 7, wanted a class from 0 to 3\n",
    ),
    "labels that are no integers": (["cross_entropy_with_logits", "p.npy", "soft_labels.npy"], "must be integers or bools, got float64"),
    "soft targets to balance": ([BCE, "p.npy", "q.npy", "--pos-weight", "balanced"], "pos_weight='balanced' needs targets that are 0 or 1"),
    "soft classes to balance": ([BCE, "p.npy", "q.npy", "--class-weight", "balanced"], "class_weight='balanced' needs targets that"),
    "an option of another loss": ([*MSE, "--delta", "2"], "unrecognized arguments: --delta 2; see jitloss evaluate mse_loss --help"),
    "half an option": ([*MSE, "--grad", "out.npy"], "unrecognized arguments: --grad out.npy"),
    "an option without a value": ([*MSE, "--reduction"], "argument --reduction: expected one argument"),
    "a bad reduction": ([*MSE, "--reduction", "average"], "mse_loss: reduction must be 'mean', 'sum' or 'none', got 'average'"),
    "a bad normalizer": ([*MSE, "--normalizer", "0"], "mse_loss: normalizer must be 'count', 'weights' or a positive number, got 0"),
    "a bad parameter": (["huber_loss", *MSE[1:], "--delta", "wide"], "huber_loss: delta must be a positive number, got 'wide'"),
    "a parameter out of range": (["huber_loss", *MSE[1:], "--delta", "-1"], "huber_loss: delta must be a positive number, got -1"),
    "a bad axis": ([*CE, "--axis", "5"], "cross_entropy_with_logits: axis 5 is out of range for logits of the shape (30, 4)"),
    "an axis that is none": ([*CE, "--axis", "last"], "cross_entropy_with_logits: axis must be an integer, got 'last'"),
    "a bad smoothing": ([*CE, "--label-smoothing", "2"], "label_smoothing must be a number from 0 to 1, got 2"),
    "a bad ignored label": ([*CE, "--ignore-index", "1.5"], "ignore_index must be an integer or None, got 1.5"),
    "weights that are no file": ([*MSE, "--sample-weight", "nowhere.npy"], "cannot read sample_weight from 'nowhere.npy'"),
    "weights of another shape": ([*MSE, "--sample-weight", "three.npy"], "sample_weight must have the leading axes of the items"),
    "a negative weight": ([*MSE, "--sample-weight", "negative.npy"], "sample_weight must not be negative or NaN, got -1.0 at index 21"),
    "class weights that are no file": ([*CE, "--class-weight", "balance"], "wanted 'balanced' or an .npy file with a weight for"),
    "class weights of another shape": ([*CE, "--class-weight", "three.npy"], "one weight for each of 4 classes, got the shape (3,)"),
    "no single value": ([*MSE, "--reduction", "none"], "there is no single value to print: give --values OUT.npy"),
    "values of a mean": ([*MSE, "--values", "v.npy"], "--values is for the values of the items: it needs --reduction none"),
    "values of a penalty": (["l1_regularization", "p.npy", "--values", "v.npy"], "unrecognized arguments: --values v.npy"),
    "no such folder": ([*MSE, "--gradient", "no/out.npy"], "cannot write --gradient 'no/out.npy': no such file or directory"),
    "a folder as output": ([*MSE, "--gradient", "folder.npy"], "cannot write --gradient 'folder.npy': it is a folder"),
    "a device as output": ([*MSE, "--gradient", "/dev/null"], "cannot write --gradient '/dev/null': it is not a regular file"),
    "no name as output": ([*MSE, "--gradient", ""], "cannot write --gradient '': a name is wanted"),
    "a long name as output": ([*MSE, "--gradient", "x" * 300], "file name too long"),
    "an input as output": ([*MSE, "--gradient", "q.npy"], "--gradient 'q.npy' is the file of targets: an input is not overwritten"),
    "an input by another name": ([*MSE, "--gradient", "hard_link.npy"], "--gradient 'hard_link.npy' is the file of predictions"),
    "weights as output": ([*MSE, "--sample-weight", "three.npy", "--gradient", "three.npy"], "is the file of sample_weight"),
    "one file for two": (
        [*MSE, "--reduction", "none", "--values", "v.npy", "--gradient", "./v.npy"],
        "--gradient and --values are the same file, 'v.npy'",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(words, message, capsys):
    before = sorted(os.listdir())
    if "--gradient" not in words and words and words[0] in jitloss.LOSSES:
        words = [*words, "--gradient", "out.npy"]
    if "no single value" in message:
        words = words[: words.index("--gradient")]
    complains(["evaluate", *words], message, capsys)
    assert sorted(os.listdir()) == before
    assert survives(Path("out.npy").resolve())


@pytest.mark.usefixtures("bad")
def test_a_file_that_may_not_be_written(monkeypatch, capsys):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    complains(["evaluate", *MSE, "--gradient", "out.npy"], "cannot write --gradient 'out.npy': permission denied", capsys)
    assert survives(Path("out.npy").resolve())


@pytest.mark.usefixtures("bad")
def test_a_bad_label_has_its_place_among_all_axes(capsys):
    labels = np.zeros((6, 5), np.int64)
    labels[4, 3] = -1
    np.save("many.npy", labels)
    np.save("logits.npy", np.zeros((6, 2, 5)))
    words = ["evaluate", "cross_entropy_with_logits", "logits.npy", "many.npy", "--axis", "1"]
    complains(words, "targets[4, 3] (row 23) is -1, wanted a class from 0 to 1", capsys)


# The other commands -----------------------------------------------------------------------------------------------------------------


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jitloss {jitloss.__version__}\n"
    for words in ([], ["--help"]):
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert all(command in shown for command in ("demo", "evaluate", "info", "warmup", "bench"))
    assert cli.main(["frobnicate"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_evaluate_lists_the_losses(capsys):
    assert cli.main(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", shown, re.MULTILINE) for name in jitloss.LOSSES)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)
def test_each_loss_shows_its_files_and_options(loss, capsys):
    assert cli.main(["evaluate", loss.__name__, "--help"]) == 0
    shown = capsys.readouterr().out
    for name, one in loss.__signature__.parameters.items():
        word = f"{name.upper()}.npy" if one.default is one.empty else f"--{name.replace('_', '-')}"
        about = re.search(rf"^  {re.escape(word)}\b.*\n?(?:  +\S.*)", shown, re.MULTILINE)
        assert about, word
    assert "``" not in shown
    assert ":math:" not in shown
    assert len(evaluate._entries(str(loss.value.__doc__))) == len(loss.__signature__.parameters)


def test_info(capsys):
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())
    assert lines["jitloss"] == jitloss.__version__
    assert {"Python", "numpy", "numba", "llvmlite", "processor", "threads", "SIMD", "disk cache", "devices"} <= set(lines)
    assert "threading layer" in lines["threads"]
    assert lines["devices"].startswith("CPU; CUDA: ")


def test_info_without_a_cache(capsys, monkeypatch):
    monkeypatch.setattr(info, "cache_folder", lambda: None)
    assert cli.main(["info"]) == 0
    assert "none: no folder can be written to" in capsys.readouterr().out


def test_warmup_leaves_kernels_that_the_next_process_finds(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "jitloss", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    def kernels() -> set[Path]:
        return set((tmp_path / "cache").rglob("*.nbc"))

    first = run("warmup", "mse_loss")
    assert re.match(r"1 loss, 6 kernels ready in \d+\.\d s\n", first)
    assert f"({len(kernels())} kernels, " in first
    before = kernels()
    assert len(before) >= 6
    run("evaluate", "mse_loss", *saved([np.zeros(40_000)] * 2, tmp_path), "--gradient", str(tmp_path / "out.npy"))
    assert kernels() == before
    again = "import numpy, jitloss; x = numpy.ones(4); print([jitloss.mse_loss.gradient(x, x).sum() for _ in range(3)])"
    subprocess.run([sys.executable, "-c", again], env=environment, check=True, capture_output=True)
    assert kernels() == before


@pytest.mark.parametrize(("name", "layouts"), [("cross_entropy_loss", 2 + 2), ("cross_entropy_with_logits", 3 + 4)])
def test_warmup_compiles_every_layout_for_dense_targets_and_labels(monkeypatch, capsys, name, layouts):
    seen = set()

    class Recorder:
        __name__ = name
        definition = jitloss.LOSSES[name].definition

        def __getattr__(self, form):
            return lambda p, t: seen.add((form, p.dtype.name, p.shape, t.ndim))

    monkeypatch.setitem(jitloss.LOSSES, name, Recorder())
    assert cli.main(["warmup", name]) == 0
    assert len(seen) == 3 * 2 * layouts
    assert f"1 loss, {3 * 2 * layouts} kernels ready" in capsys.readouterr().out


def test_warmup_of_no_loss(capsys):
    complains(["warmup", "mse_los"], "no loss is called 'mse_los'; did you mean mse_loss", capsys)


def test_bench_outside_of_the_repository(tmp_path):
    command = [sys.executable, "-m", "jitloss", "bench", "l1_loss:1000", "--quick", "--rounds", "1", "--json", "report.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "l1_loss 1000" in done.stdout
    assert done.stderr == ""
    assert "l1_loss" in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mse_los"], "no loss is called 'mse_los'"),
        (["mse_loss:1x"], "'mse_loss:1x': the shape after the colon is written like 1000000"),
        (["--rounds", "-1"], "--rounds must be positive, got -1"),
        (["--json", "no/where.json"], "--json no/where.json: there is no folder 'no' that can be written to"),
    ],
)
def test_bad_bench(words, message, capsys):
    complains(["bench", *words], message, capsys)


# Pipes and terminals ------------------------------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m jitloss evaluate cross_entropy_with_logits --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # all of it may have fitted into the pipe before the reader went


def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "jitloss", "info"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "jitloss info: no space left on device\n")


@pytest.mark.parametrize("with_rich", [True, False])
def test_a_bar_is_drawn_on_a_terminal_where_the_work_takes_a_while(with_rich, monkeypatch, capsys):
    from jitloss.bench import progress

    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.progress(3, delay=0.01) as step:
        step("quick")
        assert capsys.readouterr().err == ""
        time.sleep(0.02)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        step("slow")
        step("slower")
    shown = capsys.readouterr().err
    assert "slow" in shown
    assert "2/3" in shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with progress.progress(3) as step:
        step("quick")
    assert capsys.readouterr().err == ""


def test_importing_jitloss_imports_no_command():
    code = "import sys, jitloss; print([name for name in sys.modules if name.startswith(('jitloss.c', 'jitloss.bench'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "jitloss.cli" not in shown
    assert "jitloss.commands" not in shown
    assert "jitloss.bench" not in shown
