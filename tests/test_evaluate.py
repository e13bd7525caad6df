"""``jitloss evaluate`` on blocks of its files: the same numbers as one call."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import CASES, PARAMETERS, agree, draw, is_binary, weights
from evaluating import complains, flags, same, saved, written
from jitloss import cli
from jitloss.commands import blocks, files


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
    """Blocks of a few elements, with pages released after each of them."""
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
    """Then float32 sums are the same, and a value agrees with that of one call up to float64 rounding."""
    if name != "mse_loss" and len(shape) == 1:
        shape = (25_000, 10)
    monkeypatch.setattr(blocks, "BLOCK", 100_000)
    case = next(case for case in CASES if case.name == name)
    inputs = draw(case, shape, "float32")
    assert len(blocks.Whole(case.loss.definition, _named(case, inputs)).cuts) > 1
    check(case.loss, inputs, {}, tmp_path, capsys)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ["mse_loss", "kl_divergence"])
def test_blocks_are_read_from_one_place_after_the_other(name, order, monkeypatch):
    """A block of several pages apart would read many pages for few elements."""
    monkeypatch.setattr(blocks, "BLOCK", 64)
    case = next(case for case in CASES if case.name == name)
    first, *others = (np.asarray(one, order=order) for one in draw(case, (16, 4, 8), axis=1))
    options = {"axis": 1} if case.rowwise else {}
    cuts = blocks.Whole(case.loss.definition, {**_named(case, [first, *others]), **options}).cuts
    parts = [first[cut] for cut in cuts]
    if not case.rowwise:
        assert all(part.flags.c_contiguous or part.flags.f_contiguous for part in parts)
    places = [part.ctypes.data for part in parts]
    assert len(places) > 4
    assert places == sorted(places)


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
