"""The files that ``jitloss evaluate`` writes: complete or not at all, with bounded memory."""

import errno
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from evaluating import complains, older, pair, saved, survives
from jitloss import cli
from jitloss.commands import blocks, files
from jitloss.commands.signals import Stopped, stoppable

# What is written --------------------------------------------------------------------------------------------------------------


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


def test_a_disk_without_room_is_found_and_one_that_reserves_nothing_is_used(tmp_path, capsys, monkeypatch):
    out, inputs = older(tmp_path), pair(tmp_path)
    command = ["evaluate", "cross_entropy_with_logits", *inputs, "--gradient", str(out)]

    def answer(number):
        def reserve(*args):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", reserve)

    answer(errno.ENOSPC)
    complains(command, "cannot write --gradient", capsys)
    assert survives(out)
    answer(errno.EOPNOTSUPP)
    assert cli.main(command) == 0
    assert np.load(out).shape == (30, 4)


@pytest.mark.parametrize("lost", [1, 7, 8])
def test_any_byte_that_is_missing_is_missed(tmp_path, capsys, lost):
    inputs = pair(tmp_path)
    os.truncate(inputs[0], os.path.getsize(inputs[0]) - lost)
    complains(["evaluate", "cross_entropy_with_logits", *inputs], "is truncated", capsys)


# Killed in the middle ---------------------------------------------------------------------------------------------------------


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


def test_a_signal_between_two_names_waits_for_the_second(tmp_path, monkeypatch):
    names, take_name = [tmp_path / "one", tmp_path / "other"], files.NewFile.take_name

    def interrupted(file):
        signal.raise_signal(signal.SIGTERM)
        take_name(file)

    monkeypatch.setattr(files.NewFile, "take_name", interrupted)
    made = [files.NewFile(str(name), "--gradient") for name in names]
    for file in made:
        file.create()
    with pytest.raises(Stopped), stoppable(), files.new_files() as news:
        news.extend(made)
    assert sorted(tmp_path.iterdir()) == names


def test_a_second_signal_does_not_interrupt_the_cleanup():
    with stoppable():
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def test_signals_have_their_usual_meaning_again_afterwards():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_that_others_handle_stay_theirs():
    interrupt = signal.getsignal(signal.SIGINT)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert cli.main(["evaluate", "--help"]) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        with stoppable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) == interrupt


# Files larger than memory -----------------------------------------------------------------------------------------------------


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
