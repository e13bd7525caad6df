"""The demo: a network that learns to read digits, in a table and in a picture."""

import contextlib
import errno
import os

import matplotlib.image
import numpy as np
import pytest

from jitloss import cli
from jitloss.commands import demo, training


def learn(seed: int, epochs: int) -> list[training.Epoch]:
    data, random = training.load_data(seed), np.random.default_rng(seed)
    return list(training.train(training.Network(64, random), data, epochs, random, lambda text: None))


@pytest.fixture(scope="module")
def epochs() -> list[training.Epoch]:
    return learn(0, 25)


def test_the_network_learns_to_read(epochs):
    assert [one.number for one in epochs] == list(range(1, 26))
    assert epochs[-1].accuracy >= 0.95
    assert epochs[-1].loss < 0.1 * epochs[0].loss
    assert epochs[-1].held_out_loss < epochs[0].held_out_loss


def test_the_same_seed_gives_the_same_curves_and_another_one_others(epochs):
    assert learn(0, 2) == epochs[:2]
    assert learn(1, 2) != epochs[:2]


def test_the_gradients_are_those_of_the_loss():
    data, random = training.load_data(0), np.random.default_rng(0)
    network = training.Network(64, random)
    for group in (network.weights, network.biases):
        group.update({name: one.astype(np.float64) for name, one in group.items()})
    images, digits = data.images[:32].astype(np.float64), data.digits[:32]
    _, *gradients = network.gradients(images, digits)
    for group, slopes in zip((network.weights, network.biases), gradients, strict=True):
        for name, slope in slopes.items():
            place, size = np.unravel_index(np.argmax(abs(slope)), slope.shape), 1e-6
            values = []
            for sign in (1, -1):
                group[name][place] += sign * size
                values.append(network.gradients(images, digits)[0])
                group[name][place] -= sign * size
            assert slope[place] == pytest.approx((values[0] - values[1]) / (2 * size), rel=1e-5)


def test_held_out_digits_are_not_trained_on():
    data = training.load_data(0)
    assert len(data.digits) + len(data.held_out_digits) == 1797
    assert len(data.held_out_digits) == training.HELD_OUT
    seen = {image.tobytes() for image in data.images}
    assert not seen & {image.tobytes() for image in data.held_out_images}


def test_command_shows_a_table_and_draws_a_picture(tmp_path, capsys, monkeypatch):
    steps: list = []

    @contextlib.contextmanager
    def progress(total):
        yield steps.append
        assert len(steps) == total

    monkeypatch.setattr(demo, "progress", progress)
    monkeypatch.setattr(demo, "LARGE", 256)
    picture = tmp_path / "curves.PNG"
    assert cli.main(["demo", "--output", str(picture), "--epochs", "3", "--seed", "1"]) == 0
    shown, complaints = capsys.readouterr()
    assert complaints == ""
    for one in learn(1, 3):
        assert f"{one.loss:.4f}" in shown
        assert f"{one.held_out_loss:.4f}" in shown
    assert "held-out accuracy" in shown
    assert "64 × 10" in shown
    assert "256 × 10" in shown
    assert f"The curves are in {picture}." in shown
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20
    assert [one.name for one in tmp_path.iterdir()] == ["curves.PNG"]


def test_times_and_their_ratio(epochs, capsys):
    logits, digits = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32), np.arange(64) % 10
    found = demo.race(logits, digits, rounds=1)
    assert (found.rows, found.ratio) == (64, found.theirs / found.ours)
    demo.show(epochs, [demo.Race(64, 2.5e-5, 1.5e-3, 60.0)])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("64 × 10", "25.0 µs", "1.50 ms", "60.0×"))


@pytest.mark.parametrize("wrong", [0, 1])
def test_only_equal_results_are_timed(wrong, monkeypatch):
    right = demo.NUMPY["cross_entropy_with_logits"]

    def other(logits, digits):
        return tuple(1.001 * one if place == wrong else one for place, one in enumerate(right(logits, digits)))

    monkeypatch.setitem(demo.NUMPY, "cross_entropy_with_logits", other)
    with pytest.raises(RuntimeError, match="disagree about the loss"):
        demo.race(np.eye(10, dtype=np.float32), np.arange(10) // 2)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(demo, "_train_and_race", lambda arguments: [])
    monkeypatch.setattr(demo, "draw", full)
    picture = str(tmp_path / "curves.png")
    assert cli.main(["demo", "--output", picture]) == 2
    assert capsys.readouterr().err == f"jitloss demo: cannot write --output {picture!r}: no space left on device\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_other_kinds_of_picture(epochs, tmp_path, kind):
    demo.draw(epochs, tmp_path / "picture.part", kind)
    start = (tmp_path / "picture.part").read_bytes()[:100]
    assert {"svg": b"<?xml", "pdf": b"%PDF"}[kind] in start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "missing/curves.png"], "cannot write --output 'missing/curves.png': no such file or directory"),
        (["--output", "."], "cannot write --output '.': it is a folder"),
        (["--output", "curves.xyz"], "--output 'curves.xyz' must be an image file: .jpg, .pdf, .png, .svg"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'; see jitloss demo --help"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
    ],
)
def test_bad_options_are_found_before_the_training(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "train", None)
    assert cli.main(["demo", *options]) == 2
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert complaint.startswith(f"jitloss demo: {message}")
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_what_to_install(monkeypatch, capsys):
    found = demo.importlib.util.find_spec
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None if name in ("sklearn", "rich") else found(name))
    assert cli.main(["demo"]) == 2
    message = "jitloss demo: the demo needs scikit-learn and rich, not installed here: pip install 'jitloss[demo]'\n"
    assert capsys.readouterr() == ("", message)


def test_a_failed_demo_leaves_the_older_picture(tmp_path, monkeypatch):
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"older")

    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(demo, "train", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo", "--output", str(picture)])
    assert picture.read_bytes() == b"older"
    assert [one.name for one in tmp_path.iterdir()] == ["curves.png"]
