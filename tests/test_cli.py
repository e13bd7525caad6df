"""The command line: what it prints, and how it fails."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jitloss
from cases import ALL
from evaluating import complains, saved, survives
from jitloss import cli
from jitloss.commands import blocks, evaluate, files, info
from jitloss.commands.common import CommandError, find_loss
from jitloss.commands.evaluate import _gradient_paths, _word_or_none
from jitloss.commands.files import Source

# Bad input --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """A current folder with files, most of them invalid."""
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
    Path("cut.npy").write_bytes(whole[:20] + b" " * 107 + b"\n" + whole[128:])
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
    "a header that is cut off": (["mse_loss", "cut.npy", "q.npy"], "'cut.npy' has a damaged .npy header"),
    "a negative size": (["mse_loss", "minus.npy", "q.npy"], "'minus.npy' has a damaged .npy header"),
    "a size beyond every disk": (["mse_loss", "huge.npy", "q.npy"], "'huge.npy' is truncated: it has 128 bytes, an array (9999"),
    "objects": (["mse_loss", "objects.npy", "q.npy"], "'objects.npy' holds Python objects, which are never unpickled"),
    "bfloat16": (["mse_loss", "bfloat16.npy", "q.npy"], "which is what NumPy writes for bfloat16; save it as float32 or float16"),
    "words": (["mse_loss", "words.npy", "q.npy"], "mse_loss: predictions must be float16, bfloat16, float32, float64 or integers"),
    "complex": (["mse_loss", "p.npy", "complex.npy"], "mse_loss: targets must hold numbers or bools (float16, bfloat16"),
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
    "a negative weight": (
        [*MSE, "--sample-weight", "negative.npy"],
        "sample_weight must not be negative, infinite or NaN, got -1.0 at index 21",
    ),
    "class weights that are no file": ([*CE, "--class-weight", "balance"], "wanted 'balanced' or an .npy file with a weight for"),
    "class weights of another shape": ([*CE, "--class-weight", "three.npy"], "one weight for each of 4 classes, got the shape (3,)"),
    "no single value": ([*MSE, "--reduction", "none"], "there is no single value to print: give --values OUT.npy"),
    "values of a mean": ([*MSE, "--values", "v.npy"], "--values is for the values of the items: it needs --reduction none"),
    "values of a penalty": (["l1_regularization", "p.npy", "--values", "v.npy"], "unrecognized arguments: --values v.npy"),
    "no such folder": ([*MSE, "--gradient", "no/out.npy"], "cannot write --gradient 'no/out.npy': no such file or directory"),
    "a folder as output": ([*MSE, "--gradient", "folder.npy"], "cannot write --gradient 'folder.npy': it is a folder"),
    "a device as output": ([*MSE, "--gradient", "/dev/null"], "cannot write --gradient '/dev/null': it is not a regular file"),
    "no name as output": ([*MSE, "--gradient", ""], "cannot write --gradient '': a file name is required"),
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


@pytest.mark.parametrize("command", ["demo", "info", "warmup", "bench"])
def test_an_unknown_option_is_said_by_its_command(command, capsys):
    complains([command, "--nope"], f"jitloss {command}: unrecognized arguments: --nope; see jitloss {command} --help", capsys)


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


# The other commands -----------------------------------------------------------------------------------------------------------


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
    assert len(evaluate._helps(str(loss.value.__doc__))) == len(loss.__signature__.parameters)


def test_info(capsys):
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())
    assert lines["jitloss"] == jitloss.__version__
    assert {"Python", "numpy", "numba", "llvmlite", "processor", "threads", "SIMD", "disk cache", "devices"} <= set(lines)
    assert "threading layer" in lines["threads"]
    assert lines["devices"].startswith("CPU; CUDA: ")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_encoding_lacks_is_a_question_mark(encoding, monkeypatch):
    def shows(arguments):
        print("2.5×, 3 µs ✓")

    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(info, "command", shows)
    assert cli.main(["info"]) == 0
    assert written.getvalue() == "2.5×, 3 µs ✓\n".encode(encoding, "replace")
    assert stream.errors == "strict"


def test_output_that_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["info"]) == 0


def test_benchmarks_that_cannot_be(tmp_path, capsys):
    np.save(tmp_path / "file.npy", 1.0)
    complains(["bench", "mse_loss:100", "--json", str(tmp_path / "file.npy" / "x")], "there is no folder", capsys)
    complains(["bench", "mse_loss:99999999999999"], "Unable to allocate", capsys)


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
        (["--rounds", "-1"], "--rounds must not be negative, got -1"),
        (["--json", "no/where.json"], "--json no/where.json: there is no folder 'no' that can be written to"),
    ],
)
def test_bad_bench(words, message, capsys):
    complains(["bench", *words], message, capsys)


# Pipes and terminals ----------------------------------------------------------------------------------------------------------


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


def test_files_may_be_longer_than_their_array(tmp_path):
    path = tmp_path / "longer.npy"
    np.save(path, np.arange(3.0))
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(Source(str(path), "p").array, np.arange(3.0))


def test_a_header_of_too_many_axes(tmp_path):
    path = tmp_path / "axes.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1,) * 65})
        file.write(bytes(8))
    with pytest.raises(CommandError, match=r"has a damaged .npy header"):
        Source(str(path), "p")


def test_none_may_be_written_in_capitals():
    assert [_word_or_none(text) for text in ("None", "none", "1")] == [None, None, 1]


def test_gradient_files_of_other_suffixes():
    paths = _gradient_paths(jitloss.triplet_loss.definition, "a/out.v2")
    assert paths["anchor"] == "a/out.v2.anchor.npy"
    assert _gradient_paths(jitloss.triplet_loss.definition, "a/out.npy")["anchor"] == "a/out.anchor.npy"


def test_no_name_is_no_hint():
    with pytest.raises(CommandError, match="no loss is called ''; there are "):
        find_loss("")
