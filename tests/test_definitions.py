"""Users' own losses: where they may be written, what they may contain, and the errors for what is rejected."""

import copy
import functools
import inspect
import pickle
import subprocess
import sys
import textwrap
from math import log as logarithm
from typing import Annotated

import numpy as np
import pytest

import jitloss
from cases import ALL
from jitloss import DefinitionError, definition
from jitloss.running import compiler

FACTOR, COUNT, SWITCH, NOTHING = 0.5, 3, True, None
TABLE = [1.0, 2.0]


def halved(x, by=2.0, *, shift=0.0):
    return x / by + shift


def deep(x):
    return halved(halved(x, 4.0), shift=1.0)


@jitloss.pointwise
def own(prediction, target, alpha=1.0, *, cap=None, flip=False):
    """Squared error and some."""
    error = prediction - target
    if flip:
        error = -error
    if cap is not None:
        error = clip(error, -cap, cap)  # noqa: F821
    slope = where(flip, -1.0, 1.0) * (2.0 * error + alpha)  # noqa: F821
    return error * error + alpha * error, slope, 2.0


@jitloss.rowwise
class own_rows:
    """A weighted squared distance."""

    scale: definition.Positive = 2.0

    def terms(prediction, target):
        error = prediction - target
        return error * error, prediction

    def value(sums, label, scale):
        return scale * label * sums[0], scale * label

    def slope(prediction, target, factor):
        return 2.0 * factor * (prediction - target)


PREDICTIONS, TARGETS = np.array([1.0, -2.0, 4.0]), np.array([0.0, 1.0, 4.0])


def both(loss, *args, **options):
    value, gradient = loss.value_and_gradient(*args, **options)
    return value, gradient.tolist()


# What works -------------------------------------------------------------------------------------------------------------------


def test_a_pointwise_loss_of_a_module():
    for _ in range(2):
        value, gradient = both(own, PREDICTIONS, TARGETS)
        assert value == pytest.approx((1 + 1 + 9 - 3 + 0 + 0) / 3)
        assert gradient == pytest.approx([3 / 3, (-6 + 1) / 3, 1 / 3])
    assert own(PREDICTIONS, TARGETS, 0.0) == pytest.approx(10 / 3)
    assert own(PREDICTIONS, TARGETS, alpha=0.0, cap=1.0) == pytest.approx(2 / 3)
    assert own(PREDICTIONS, TARGETS, alpha=1, flip=True) == pytest.approx((10 - 1 + 3) / 3)
    assert both(own, PREDICTIONS.astype(np.float32), TARGETS)[0] == pytest.approx(8 / 3)
    for bad in ({"alpha": None}, {"cap": "1"}, {"flip": 1}):
        with pytest.raises(TypeError, match=rf"own: {next(iter(bad))} must be"):
            own(PREDICTIONS, TARGETS, **bad)


def test_a_rowwise_loss_of_a_module():
    rows, label = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.5])
    for _ in range(2):
        value, gradient = both(own_rows, rows, 0.0 * rows, label, reduction="sum")
        assert value == 2.0 * 5.0 + 25.0
        assert gradient == [[4.0, 8.0], [6.0, 8.0]]
    assert own_rows(rows, 0.0 * rows, label, scale=1.0, reduction="none").tolist() == [5.0, 12.5]
    assert str(inspect.signature(own_rows)).startswith("(predictions, targets, labels, scale=2.0, *, reduction='mean'")


def test_one_output_or_the_other():
    """Value-only and gradient-only calls agree with the whole."""
    value, gradient = both(own, PREDICTIONS, TARGETS)
    assert own(PREDICTIONS, TARGETS) == value
    assert own.gradient(PREDICTIONS, TARGETS).tolist() == gradient
    assert own.value_gradient_hessian(PREDICTIONS, TARGETS)[2].tolist() == [2.0 / 3.0] * 3


def make(power, offset=0):
    @jitloss.pointwise
    def closed(prediction, target):
        return power * prediction + offset, power

    return closed


def test_closures_are_losses_of_their_own():
    first, second = make(2.0), make(3, offset=1)
    for _ in range(2):
        assert both(first, [1.0], [0.0]) == (2.0, [2.0])
        assert both(second, [1.0], [0.0]) == (4.0, [3.0])


def test_constants_helpers_and_equivalents():
    @jitloss.pointwise
    def with_all(prediction, target):
        value = FACTOR * deep(prediction) + COUNT * max(target, 0.0) + np_log(prediction) + logarithm(prediction)
        if SWITCH and NOTHING is None:
            value = value + prediction**2
        return value, FACTOR / 8.0 + 2.0 / prediction + 2.0 * prediction

    value, gradient = both(with_all, [2.0], [-1.0])
    assert value == pytest.approx(0.5 * 1.25 + 2 * np.log(2.0) + 4.0)
    assert gradient == pytest.approx([0.0625 + 1.0 + 4.0])
    assert jitloss.check_gradient(with_all, [0.5, 2.0], [1.0, -1.0])


np_log = np.log


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_own_losses_take_every_option(name):
    predictions = PREDICTIONS.astype(name)
    value, gradient = own.value_and_gradient(predictions, TARGETS, sample_weight=[0, 1, 2], normalizer="weights", out=predictions)
    assert value == pytest.approx((9.0 - 3.0) / 3.0, rel=1e-3)
    assert gradient is predictions
    assert own(predictions.tolist(), TARGETS, reduction="none").shape == (3,)


def test_wrapped_functions_and_lambdas():
    numba = pytest.importorskip("numba")
    wrapped = jitloss.pointwise(numba.njit(lambda prediction, target: (prediction - target, 1.0)))
    assert wrapped([3.0], [1.0]) == 2.0
    assert jitloss.pointwise(lambda prediction, target: (prediction - target, 1.0))([3.0], [1.0]) == 2.0


def test_annotated_spaces_and_ranges():
    @jitloss.pointwise
    def annotated(
        p: definition.Probability, target: definition.Binary, weight: "definition.Share | None" = None, *, power: int = 2
    ):
        """Has annotations."""
        factor = 1.0 if weight is None else weight
        return factor * p**power, power * factor * p

    assert list(inspect.signature(annotated).parameters)[:4] == ["ps", "targets", "weight", "power"]
    assert annotated.definition.inputs[1].space.name == "binary"
    assert annotated([2.0], [True], 0.5) == 2.0
    with pytest.raises(ValueError, match=r"annotated: weight must be a number from 0 to 1 or None, got 1\.5"):
        annotated([2.0], [1.0], 1.5)


# Where definitions are written ------------------------------------------------------------------------------------------------

SCRIPT = """
import jitloss
import numpy as np

GAIN = 2.0

def gained(x):
    return GAIN * x

@jitloss.pointwise
def typed(prediction, target, alpha=1.0):
    error = gained(prediction - target)
    return error + alpha * abs(prediction), GAIN + alpha * sign(prediction)

@jitloss.rowwise
class typed_rows:
    def terms(prediction, target):
        return prediction * target

    def value(sums):
        return sums

    def slope(prediction, target):
        return target

assert typed.value_and_gradient([1.0, 2.0], [0.0, 1.0])[0] == 3.5
assert typed_rows.value_and_gradient([[1.0, 2.0]], [[3.0, 4.0]])[1].tolist() == [[3.0, 4.0]]
assert (typed + 0.5 * jitloss.mse_loss)([1.0], [0.0]) == 3.5
assert isinstance(typed.__doc__, str) and isinstance(typed.formula, str) and isinstance(typed_rows.formula, str)
print("done")
"""


@pytest.mark.parametrize("way", ["file", "-c", "stdin"])
def test_scripts_and_prompts(way, tmp_path):
    given: list[str]
    if way == "file":
        (tmp_path / "script.py").write_text(SCRIPT)
        given, text = [str(tmp_path / "script.py")], None
    else:
        given, text = (["-c", SCRIPT], None) if way == "-c" else (["-"], SCRIPT)
    ran = subprocess.run(
        [sys.executable, "-W", "error", *given], input=text, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (ran.stdout, ran.stderr) == ("done\n", "")


def test_notebooks():
    """Cells are compiled one by one under names that are not files, and run again after an edit."""
    scope = {"__name__": "__main__"}
    cells = SCRIPT.replace("@jitloss.rowwise", "#cell\n@jitloss.rowwise").split("#cell\n")
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<ipython-input-{number}-0123456789ab>", "exec"), scope)
    first = scope["typed"]
    edited = cells[0].replace("alpha * abs(prediction)", "alpha * abs(target)")
    exec(compile(edited.replace("== 3.5", "== 2.5"), "<ipython-input-0-0123456789ab>", "exec"), scope)
    assert scope["typed"]([1.0, 2.0], [0.0, 1.0]) == 2.5
    assert first([1.0, 2.0], [0.0, 1.0]) == 3.5


# What is refused --------------------------------------------------------------------------------------------------------------

POINT = "def bad(prediction, target{more}):\n    {body}"

REFUSED = {
    "for": ("for i in (1.0, 2.0):\n        prediction = prediction - i\n    return prediction, 1.0", "line 2", "no loops"),
    "while": ("while prediction > 1.0:\n        prediction = prediction - 1.0\n    return prediction, 1.0", "line 2|line 3", "no loops"),
    "comprehension": ("return max([x for x in (prediction, target)]), 1.0", "line 2", "no nested functions|no loops|no arrays"),
    "attribute": ("return prediction.real, 1.0", "line 2", "no attributes"),
    "method": ("return prediction.sum(), 1.0", "line 2", "no attributes"),
    "module": ("return np.exp(prediction), 1.0", "line 2", "module 'np'.*write exp"),
    "module's number": ("return np.pi * prediction, 1.0", "line 2", "module 'np'.*from math import pi"),
    "set attribute": ("prediction.x = target\n    return prediction, 1.0", "line 2", "no attributes"),
    "import": ("import math\n    return prediction, 1.0", "line 2", "no imports"),
    "import from": ("from math import exp\n    return exp(prediction), 1.0", "line 2", "no imports"),
    "list": ("return [prediction, 1.0]", "line 2", "no arrays"),
    "dict": ("return {1.0: prediction}[1.0], 1.0", "line 2", "no arrays"),
    "set": ("return {prediction}, 1.0", "line 2", "no arrays"),
    "star": ("first, *rest = prediction, target\n    return first, 1.0", "line 2", "no arrays"),
    "item": ("target[0] = prediction\n    return prediction, 1.0", "line 2", "no arrays"),
    "array": ("return ARRAY * prediction, 1.0", "line 2", "'ARRAY' stands for a ndarray"),
    "global list": ("return TABLE[0] * prediction, 1.0", "line 2", "'TABLE' stands for a list"),
    "loss": ("return mse_loss(prediction, target), 1.0", "line 2", "'mse_loss' stands for a Loss"),
    "builtin": ("print(prediction)\n    return prediction, 1.0", "line 2", "'print' stands for a builtin"),
    "unknown": ("value = 1.0\n    return missing(prediction), 1.0", "line 3", "unknown name 'missing'.*softplus"),
    "misspelt": ("return expp(prediction), 1.0", "line 2", "unknown name 'expp'"),
    "integer": ("return 2 * prediction, 1.0", "line 2", "integer literal 2.*write it as a float, 2.0"),
    "integer result": ("return prediction, 1", "line 2", "integer literal 1"),
    "integer compared": ("return where(target == 1, 1.0, 2.0), 1.0", "line 2", "integer literal 1"),
    "integer pair": ("return (1, 2)", "line 2", "integer literal 1"),
    "branch": ("if target > 1.0:\n        return prediction, 1.0, 0.0\n    return target, 1.0", "line 3", "returns 3, elsewhere 2"),
    "branch of nothing": ("if target > 1.0:\n        return ()\n    return prediction, 1.0", "line 3", "returns 0, elsewhere 2"),
    "branch compared": ("if target > 1.0:\n        return target > 2.0\n    return prediction, 1.0", "line 3", "returns 1, elsewhere 2"),
    "branch without a result": ("if target < 1.0:\n        return prediction, 1.0", "line [23]", "no None"),
    "name of one branch": (
        "if target < 1.0:\n        slope = 1.0\n    return prediction, slope",
        "",
        "assigned on every branch: .*'slope'",
    ),
    "name of two branches": (
        "if target < 1.0:\n        value = 1.0\n    elif target < 2.0 and prediction > 0.0:\n        value = 2.0\n    return value, 1.0",
        "",
        "assigned on every branch: .*'value'",
    ),
    "name of a helper's branch": ("return partly(prediction), 1.0", "", "assigned on every branch: .*'y'"),
    "global too large": ("return prediction * HUGE, 1.0", "line 2", "'HUGE' stands for an int"),
    "integer argument": ("return maximum(prediction, 0), 1.0", "line 2", "integer literal 0"),
    "integer base": ("return 2 ** prediction, 1.0", "line 2", "integer literal 2"),
    "complex": ("return prediction * 1j, 1.0", "line 2", "1j is a complex"),
    "text": ("return 'value', prediction", "line 2", "'value' is a str"),
    "f-string": ("return f'{target}', prediction", "line 2", "no strings"),
    "bytes": ("return b'value', prediction", "line 2", "b'value' is a bytes"),
    "lambda": ("return (lambda x: x)(prediction), 1.0", "line 2", "no nested functions"),
    "def": ("def inner(x):\n        return x\n    return inner(prediction), 1.0", "line 2", "no nested functions"),
    "yield": ("yield prediction, 1.0", "line 1|line 2", "no generators"),
    "global": ("global ARRAY\n    ARRAY = prediction\n    return prediction, 1.0", "line 3", "from outside"),
    "del": ("del target\n    return prediction, 1.0", "line 2", "no del:"),
    "raise": ("raise ValueError", "line 2", "no exceptions"),
    "assert": ("assert prediction > 0.0\n    return prediction, 1.0", "line 2", "no exceptions"),
    "try": ("try:\n        return prediction, 1.0\n    except ValueError:\n        return 1.0, 1.0", "line [34]", "no exceptions"),
    "with": ("with target:\n        return prediction, 1.0", "line 2", "no with"),
    "recursion": ("return recursive(prediction), 1.0", "in recursive, line", "no recursion"),
    "helper": ("return looping(prediction), 1.0", "in looping, line", "no loops"),
    "helper of helper": ("return outer(prediction), 1.0", "in outer, in looping, line", "no loops"),
    "helper of an integer": ("return two(target) * prediction, 1.0", "in two, line", "integer literal 2"),
    "helper with args": ("return starred(prediction), 1.0", "in starred, line", "no \\*args"),
    "recursion of two": ("return there(prediction), 1.0", "in there, in back, line", "no recursion: there calls itself"),
    "helper by keyword": ("return behind(prediction, b=2.0), 1.0", "in behind", "'b' has no default but stands behind one"),
    "helper with a default": ("return listed(prediction), 1.0", "in listed", "'other' stands for a list"),
    "one number": ("return prediction", "", "returns 2 or 3 numbers.*returns 1"),
    "one in a tuple": ("return (prediction,)", "", "returns 2 or 3 numbers.*returns 1"),
    "four numbers": ("return prediction, 1.0, 0.0, 0.0", "", "returns 2 or 3 numbers.*returns 4"),
    "nothing": ("value = prediction", "line 2", "no None"),
    "none on a branch": ("slope = None\n    if target < 1.0:\n        slope = 1.0\n    return prediction, slope", "line 2", "no None"),
    "none of a choice": ("slope = 1.0 if target < 1.0 else None\n    return prediction, slope", "line 2", "no None"),
    "none of a choice, first": ("slope = None if target < 1.0 else 1.0\n    return prediction, slope", "line 2", "no None"),
    "none of a helper": ("return at_times(prediction), 1.0", "in at_times, line", "no None"),
    "negative power": ("return prediction ** -1, 1.0", "line 2", "the power -1: write it as a float, -1.0"),
    "negative power of a name": ("prediction **= -2\n    return prediction, 1.0", "line 2", "the power -2"),
    "walrus": ("value = (error := prediction - target) * error\n    return value, error", "line 2", "no :="),
    "walrus in a condition": ("if (x := prediction - target) > 0.0:\n        return 1.0, 1.0\n    return x, -1.0", "line 2", "no :="),
    "none": ("return prediction, None", "", "returns numbers.*None"),
    "no tuple": ("return ()", "", "returns no number"),
    "wrong call": ("return exp(prediction, target), 1.0", "", "run once on plain numbers it raised TypeError"),
    "indexed number": ("return prediction[0], 1.0", "", "run once on plain numbers it raised IndexError"),
}  # fmt: skip


def recursive(x):
    return recursive(x - 1.0) if x > 0.0 else x


def looping(x):
    while x > 0.0:
        x = x - 1.0
    return x


def two(x):
    return 2


def outer(x):
    return looping(x)


def starred(*xs):
    return xs[0]


def at_times(x):  # noqa: RET503
    if x > 0.0:
        return x


def partly(x):
    if x < 9.0:
        y = x
    return y


def listed(x, other=TABLE):
    return x


def there(x):
    return back(x)


def back(x):
    return there(x)


def behind(x, *, a=1.0, b):
    return a * b * x


SCOPE = {
    "np": np,
    "ARRAY": np.ones(3),
    "HUGE": 10**400,
    "TABLE": TABLE,
    "mse_loss": jitloss.mse_loss,
    **{one.__name__: one for one in (recursive, looping, two, outer, starred, at_times, partly, listed, there, behind)},
    "Real": definition.Real,
    "Positive": definition.Positive,
}


def written(text, name="bad", **scope):
    scope = {**SCOPE, "definition": definition, **scope}
    exec(compile(text, "<written>", "exec"), scope)
    return scope[name]


@pytest.mark.parametrize("rule", REFUSED)
def test_rules_of_pointwise_definitions(rule):
    body, line, message = REFUSED[rule]
    function = written(POINT.format(more="", body=body))
    with pytest.raises(DefinitionError, match=rf"(?s)^bad.*({line}).*({message})"):
        jitloss.pointwise(function)


ARGUMENTS = {
    "*args": (", *args", "line 1: no \\*args or \\*\\*kwargs"),
    "**kwargs": (", **kwargs", "line 1: no \\*args or \\*\\*kwargs"),
    "text": (", a='x'", "default of a must be a number, True, False or None, got 'x'"),
    "self": (", self", "takes no self"),
    "space of a parameter": (", k: Real = 1.0", "the parameter k is annotated with the space"),
    "range of an input": (", k: Positive", "the input k is annotated as a positive number"),
    "list": (", a=[]", "default of a must be a number, True, False or None, got \\[\\]"),
    "array": (", a=np.ones(2)", "default of a must be a number, True, False or None, got array"),
    "infinite": (", a=float('inf')", "a must be a finite number, got inf"),
    "out of its range": (", a: definition.Share = 2.0", "a must be a number from 0 to 1, got 2.0"),
    "an option's name": (", reduction=1.0", "'reduction' has the name of an option"),
    "out": (", out=1.0", "'out' has the name of an option"),
    "another option": (", axis=None", "'axis' has the name of an option"),
    "an input's name": (", predictions=1.0", "two arguments of the call would be 'predictions'"),
    "annotation": (", a: 'Unknown' = 1.0", "annotations cannot be read.*Unknown"),
}


@pytest.mark.parametrize("rule", ARGUMENTS)
def test_rules_of_arguments(rule):
    more, message = ARGUMENTS[rule]
    function = written(POINT.format(more=more, body="return prediction, 1.0"))
    with pytest.raises(DefinitionError, match=f"^bad.*{message}"):
        jitloss.pointwise(function)


def test_inputs_have_the_usual_spaces_of_their_names():
    point = jitloss.pointwise(written("def bad(logit, target):\n    return logit * target, target"))
    assert [one.space.name for one in point.definition.inputs] == ["logit", "real"]
    assert [one.space.name for one in own_rows.definition.inputs] == ["real", "classes", "same"]
    text = "class bad:\n" + "\n".join(f"    {part}" for part in ROWS.values())
    rows = jitloss.rowwise(written(text.replace("value(sums)", "value(sums, share: definition.Binary)")))
    assert rows.definition.inputs[-1].space.name == "binary"


def test_switches_of_numpy_are_switches():
    for on in (True, False):
        assert own([1.0], [0.0], flip=np.bool_(on)) == own([1.0], [0.0], flip=on)


def test_a_number_for_a_row_has_no_say_in_the_precision():
    rows = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    labels = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    assert jitloss.contrastive_loss(*rows, labels) == jitloss.contrastive_loss(*rows, labels.astype(np.float32))


def test_slopes_of_the_first_inputs_only():
    """Others are data."""
    changed = {"terms": "def terms(prediction, other): return prediction * other", "slope": "def slope(other): return other"}
    loss = jitloss.rowwise(written("class bad:\n" + "\n".join(f"    {part}" for part in {**ROWS, **changed}.values())))
    np.testing.assert_array_equal(loss.gradient([[1.0, 2.0]], [[3.0, 4.0]]), [[3.0, 4.0]])


def test_a_branch_may_add_pairs():
    """How many results such a sum has cannot be told from the bytecode."""
    text = POINT.format(more="", body="if target > 1.0:\n        return (prediction,) + (2.0,)\n    return target, 1.0")
    assert jitloss.pointwise(written(text)).value_and_gradient([3.0], [2.0]) == (3.0, 2.0)


def test_switches_and_options_are_tried_both_ways():
    """Code that is compiled only when an option is on is checked too."""
    for more, body, message in (
        (", cap=None", "if cap is None:\n        return prediction, 1.0\n    return prediction", "returns 2, but 1 with cap=0.5"),
        (", on=False", "if on:\n        return prediction\n    return prediction, 1.0", "returns 2, but 1 with on=True"),
        (", a: definition.Share | None = 0.5", "return prediction * a, 1.0", "with a=None it raised TypeError"),
    ):
        function = written(POINT.format(more=more, body=body))
        with pytest.raises(DefinitionError, match=f"^bad.*{message}"):
            jitloss.pointwise(function)


def test_names_of_branches_that_go_together():
    """What is assigned where an option is given may be read where it is given."""

    @jitloss.pointwise
    def loss(prediction, target, scale=None, twice=False):
        error = prediction - target
        if scale is not None:
            factor = scale
        value = 2.0 * error if twice else error
        if scale is not None:
            value = value * factor
        if error > 1.0 and target > 0.0:
            slope = 1.0
        else:
            slope = 2.0
        return value, slope

    assert loss.value_and_gradient([3.0], [1.0], scale=4.0, twice=True) == (16.0, [1.0])
    assert loss.value_and_gradient([3.0], [0.0]) == (3.0, [2.0])


def test_definitions_without_inputs():
    with pytest.raises(DefinitionError, match="at least a prediction"):
        jitloss.pointwise(written("def bad(): return 1.0, 1.0"))


def test_closures_over_what_is_no_number():
    table = TABLE
    with pytest.raises(DefinitionError, match=r"closed, line \d+: the name 'table' stands for a list"):

        @jitloss.pointwise
        def closed(prediction, target):
            return table[0], 1.0

    def itself(prediction, target):
        return later(prediction), 1.0

    with pytest.raises(DefinitionError, match=r"itself, line \d+: the name 'later' is not defined yet"):
        jitloss.pointwise(itself)
    later, count = abs, 0.0
    assert jitloss.pointwise(itself)([-2.0], [0.0]) == 2.0

    def counting(prediction, target):
        nonlocal count
        count = count + 1.0
        return prediction, count

    with pytest.raises(DefinitionError, match=r"counting, line \d+: no variables from outside are written"):
        jitloss.pointwise(counting)


@pytest.mark.parametrize(
    "thing",
    [None, 5, "exp", np.exp, abs, int, functools.partial(halved, by=3.0), own, [].append],
    ids=lambda one: type(one).__name__,
)
def test_pointwise_takes_functions(thing):
    with pytest.raises(TypeError, match="pointwise: a definition must be a function, got"):
        jitloss.pointwise(thing)


@pytest.mark.parametrize("thing", [None, 5, "rows", halved, own_rows, lambda: 1], ids=lambda one: type(one).__name__)
def test_rowwise_takes_classes(thing):
    with pytest.raises(TypeError, match="rowwise: a definition must be a class of functions, got"):
        jitloss.rowwise(thing)


ROWS = {
    "parameters": "",
    "terms": "def terms(prediction, target): return prediction * target",
    "value": "def value(sums): return sums",
    "slope": "def slope(prediction, target): return target",
}

ROW_RULES = {
    "no terms": ({"terms": "pass"}, "terms missing"),
    "no slope": ({"slope": "pass"}, "slope missing"),
    "another function": ({"parameters": "def helper(x): return x"}, "helper not among them .write helpers beside the class"),
    "text": ({"parameters": "mode = 'a'"}, "default of mode must be a number, True, False or None, got 'a'"),
    "option": ({"parameters": "axis = 1.0"}, "'axis' has the name of an option"),
    "parameter without a default": ({"parameters": "margin: float"}, "the parameter margin has no default: write margin = "),
    "one branch": (
        {"value": "def value(sums):\n        if sums > 9.0: pass\n        else: v = sums\n        return v"},
        ".value: a name is assigned on every branch: .*'v'",
    ),
    "peak's arguments": ({"parameters": "def peak(label): return label"}, "peak: unknown argument 'label'"),
    "two peaks": ({"parameters": "def peak(prediction): return prediction, 1.0"}, "peak returns 1 number, this one returns 2"),
    "value without peak": ({"value": "def value(sums, peak): return sums"}, "value: unknown argument 'peak'"),
    "value of an element": ({"value": "def value(sums, prediction): return sums"}, "prediction has a number per element"),
    "default": ({"terms": "def terms(prediction, target, k=2.0): return k"}, "terms: the argument 'k' has a default"),
    "default by keyword": (
        {"terms": "def terms(prediction, target, *, k=2.0): return k"},
        "terms: the argument 'k' has a default",
    ),
    "three slopes of two": (
        {
            "terms": "def terms(prediction, other): return prediction * other",
            "slope": "def slope(prediction): return 1.0, 1.0, 1.0",
        },
        "one number per differentiable input .prediction, other.",
    ),
    "a row's number in peak": (
        {"parameters": "def peak(label): return label", "value": "def value(sums, label): return sums * label"},
        "peak: unknown argument 'label'",
    ),
    "star": ({"terms": "def terms(prediction, *args): return prediction"}, r"terms, line \d: no \*args"),
    "integer": ({"terms": "def terms(prediction, target): return 2 * prediction"}, r".terms, line \d: integer literal 2"),
    "unknown": ({"value": "def value(sums): return missing(sums)"}, r".value, line \d: unknown name 'missing'"),
    "loop": ({"value": "def value(sums):\n        for x in sums: pass\n        return x"}, r".value, line \d: no loops"),
    "one sum indexed": ({"value": "def value(sums): return sums[0]"}, "value: run once on plain numbers it raised IndexError"),
    "too many slopes": (
        {"slope": "def slope(prediction): return 1.0, 1.0, 1.0"},
        "one number per differentiable input .prediction.",
    ),
    "no slopes": ({"slope": "def slope(prediction): return ()"}, "slope: returns no number"),
    "no sums": ({"terms": "def terms(prediction, target): return ()"}, "terms: returns no number"),
    "coefficients missing": ({"slope": "def slope(prediction, scale): return scale"}, r"it returns 0, slope takes 1 \(scale\)"),
    "coefficients left": ({"value": "def value(sums): return sums, 1.0"}, r"it returns 1, slope takes 0 \(none\)"),
    "a row's number in slope": (
        {"value": "def value(sums, gain): return sums * gain", "slope": "def slope(target, gain): return gain * target"},
        r"it returns 0, slope takes 1 \(gain\)",
    ),
    "targets only": (
        {"terms": "def terms(target): return target", "slope": "def slope(target): return target"},
        "no differentiable input",
    ),
}


@pytest.mark.parametrize("rule", ROW_RULES)
def test_rules_of_rowwise_definitions(rule):
    changed, message = ROW_RULES[rule]
    text = "class bad:\n" + "\n".join(f"    {part}" for part in {**ROWS, **changed}.values())
    with pytest.raises(DefinitionError, match=f"^bad.*{message}"):
        jitloss.rowwise(written(text))
    good = jitloss.rowwise(written("class bad:\n" + "\n".join(f"    {part}" for part in ROWS.values())))
    assert good([[1.0, 2.0]], [[3.0, 4.0]]) == 11.0


# A loss as a Python object ----------------------------------------------------------------------------------------------------

EVERYONE = [*ALL, own, own_rows]
FORMS = ("value", "gradient", "value_and_gradient", "value_gradient_hessian")


@pytest.mark.parametrize("loss", EVERYONE, ids=lambda loss: loss.__name__)
def test_losses_look_like_functions(loss):
    assert callable(loss)
    assert loss.__name__ == loss.__qualname__ == loss.definition.name
    assert inspect.getdoc(loss)
    assert loss.__name__ in repr(loss)
    names = [one.public for one in loss.definition.inputs]
    for form in (loss, *(getattr(loss, name) for name in FORMS)):
        signature = inspect.signature(form)
        assert list(signature.parameters)[: len(names)] == names
        assert ("out" in signature.parameters) == (form not in (loss, loss.value))
        assert all(one.default is not one.empty for one in list(signature.parameters.values())[len(names) :])
        assert isinstance(form.__doc__, str)
        assert len(form.__doc__) > 20
        assert form.__module__ == loss.__module__
        assert str(signature) in repr(form)
    assert loss.gradient.__name__ == f"{loss.__name__}_gradient"
    assert isinstance(loss.formula, str)


def test_docstrings_keep_the_definition_text():
    assert own.__doc__.startswith("Squared error and some.")
    assert "A weighted squared distance." in own_rows.gradient.__doc__


@pytest.mark.parametrize("loss", EVERYONE, ids=lambda loss: loss.__name__)
def test_losses_are_pickled_by_name(loss):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(loss, protocol)) is loss
        for form in FORMS:
            assert pickle.loads(pickle.dumps(getattr(loss, form), protocol)) is getattr(loss, form)
    assert copy.copy(loss) is loss
    assert copy.deepcopy({"loss": loss})["loss"] is loss
    assert len(pickle.dumps(loss)) < 100


def test_sums_and_changed_losses_are_pickled_by_their_parts():
    changed = jitloss.huber_loss.with_parameters(delta=0.5)
    for loss in (0.5 * own, jitloss.mse_loss + 0.5 * own, changed, 2.0 * changed - own, jitloss.weighted_sum(a=(changed, 2.0))):
        for again in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), copy.copy(loss)):
            assert repr(again) == repr(loss)
            args = (
                ({"a": PREDICTIONS}, {"a": TARGETS})
                if hasattr(loss, "terms") and isinstance(loss.terms, dict)
                else (PREDICTIONS, TARGETS)
            )
            assert again(*args) == loss(*args)


def test_with_parameters():
    changed = own.with_parameters(alpha=2, cap=1.0, flip=True)
    defaults = {name: one.default for name, one in inspect.signature(changed).parameters.items()}
    assert (defaults["alpha"], defaults["cap"], defaults["flip"]) == (2.0, 1.0, True)
    assert changed(PREDICTIONS, TARGETS) == own(PREDICTIONS, TARGETS, 2.0, cap=1.0, flip=True)
    assert changed(PREDICTIONS, TARGETS, cap=None, flip=False, alpha=1.0) == own(PREDICTIONS, TARGETS)
    again = changed.with_parameters(alpha=3.0)
    assert again(PREDICTIONS, TARGETS) == own(PREDICTIONS, TARGETS, 3.0, cap=1.0, flip=True)
    with pytest.raises(TypeError, match="own has no parameter 'beta'; it has alpha, cap, flip"):
        own.with_parameters(beta=1.0)
    with pytest.raises(TypeError, match="before they are added"):
        (own + jitloss.mse_loss).with_parameters(alpha=1.0)


def test_an_error_of_the_compiler_names_the_loss():
    """What passes the rules but not numba is a definition error too, and nothing has been written."""

    @jitloss.pointwise
    def odd(prediction, target):
        value = prediction
        if target > 100.0:
            value = (prediction, target)
        return value, 1.0

    out = np.full(3, 5.0)
    with pytest.raises(DefinitionError, match=r"^odd: the definition cannot be compiled for float64"):
        odd.gradient(PREDICTIONS, TARGETS, out=out)
    assert (out == 5.0).all()


@pytest.mark.parametrize(
    ("error", "wanted", "said"),
    [
        (RecursionError("no end"), DefinitionError, "^refused: the definition is too deep for the compiler: no end$"),
        (NotImplementedError("no such"), DefinitionError, "^refused: the definition cannot be compiled for float64: no such$"),
        (MemoryError("no memory"), MemoryError, "^no memory$"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_what_stops_the_compiler(error, wanted, said, monkeypatch):
    """An error in the definition names it; any other is raised unchanged."""

    @jitloss.pointwise
    def refused(prediction, target):
        return prediction * target, target

    def stop(variant):
        raise error

    monkeypatch.setattr(compiler(), "kernel", stop)
    with pytest.raises(wanted, match=said):
        refused(PREDICTIONS, TARGETS)


def test_annotations_of_other_kinds_are_let_be():
    function = written(textwrap.dedent("""
        from typing import Annotated
        def bad(prediction: float, target: Annotated[float, "text"], a: int = 1) -> tuple:
            return a * prediction, a
    """), Annotated=Annotated)  # fmt: skip
    assert jitloss.pointwise(function)([2.0], [0.0], 3) == 6.0


# A definition stays what it was -------------------------------------------------------------------------------------------------


def test_names_stand_for_what_they_stood_for():
    """Kernels are compiled one by one, but all with the globals and helpers from when the definition was created."""
    scope = {"jitloss": jitloss, "FACTOR": 2.0}
    text = """
def helper(x, by=3.0):
    return FACTOR * by * x

def changing(prediction, target):
    return helper(prediction) + FACTOR * target, helper(1.0)
"""
    exec(text, scope)
    loss = jitloss.pointwise(scope["changing"])
    assert loss([1.0], [1.0]) == 8.0
    scope["helper"].__defaults__ = (100.0,)
    scope |= {"FACTOR": 5.0, "helper": lambda x: x}
    assert loss.value_and_gradient([1.0], [1.0]) == (8.0, [6.0])
    del scope["FACTOR"]
    assert loss(np.float32([1.0]), np.float32([1.0])) == 8.0


@jitloss.pointwise
def with_a_switch_that_may_be_none(prediction, target, k=None):
    factor = k if k else 1.0
    return factor * prediction, factor


@jitloss.pointwise
def with_one_argument_too_many(prediction, target):
    return max(prediction, target, 0.0) if prediction > 100.0 else prediction, 1.0


@jitloss.pointwise
def with_a_choice_of_functions(prediction, target, switch=True):
    one = exp if switch else log1p  # noqa: F821
    return one(prediction), 1.0


def test_methods_are_no_parts():
    with pytest.raises(DefinitionError, match=r"methods.value: the functions of a definition take no self"):

        @jitloss.rowwise
        class methods:
            def terms(prediction, target):
                return prediction * target

            def value(self, sums):
                return sums

            def slope(prediction, target):
                return target


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (with_a_switch_that_may_be_none, "factor is None on one branch and a number on another"),
        (with_one_argument_too_many, r"maximum\(a, b\): too many positional arguments"),
        (with_a_choice_of_functions, "Cannot unify exp and log1p"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_numba_cannot_compile_is_one_line(loss, said):
    with pytest.raises(
        DefinitionError, match=f"^{loss.__name__}: the definition cannot be compiled for float64: .*{said}"
    ) as caught:
        loss([1.0], [0.0])
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def plain_inputs(a, target):
    return a - target, 1.0


def test_names_whose_plural_is_a_keyword():
    loss = jitloss.pointwise(plain_inputs)
    assert loss.value_and_gradient(a=[1.0, 3.0], targets=[0.0, 0.0]) == (2.0, pytest.approx([0.5, 0.5]))


FACTOR_OF_NUMPY = np.float32(0.5)


@jitloss.pointwise
def numbers_of_numpy(prediction, target, k=np.float32(2.0), n=np.int64(3)):  # noqa: B008
    return k * n * FACTOR_OF_NUMPY * (prediction - target), k * n * FACTOR_OF_NUMPY


def test_numbers_of_numpy_are_numbers():
    value, gradient = numbers_of_numpy.value_and_gradient(np.float32([1.0, 2.0]), np.float32([0.0, 0.0]), reduction="sum")
    assert (value, gradient.tolist(), gradient.dtype) == (9.0, [3.0, 3.0], np.float32)


@jitloss.rowwise
class weighted_by_static_functions:
    @staticmethod
    def terms(prediction, target):
        return prediction * target

    @staticmethod
    def value(sums):
        return sums, 1.0

    @staticmethod
    def slope(target, factor):
        return factor * target


@jitloss.rowwise
class with_a_gain:
    def terms(left, right):
        return left * right

    def value(sums, gain):
        return sums * gain, gain

    def slope(left, right, gain):
        return gain * right, gain * left


@pytest.mark.parametrize("columns", [3, 700])
def test_a_coefficient_may_have_the_name_of_a_number_of_the_row(columns):
    random = np.random.default_rng(0)
    left, right, gain = random.standard_normal((4, columns)), random.standard_normal((4, columns)), random.random(4)
    for loss, factor in ((with_a_gain, 1.0), (with_a_gain - 0.5 * with_a_gain.with_parameters(), 0.5)):
        value, gradients = loss.value_and_gradient(left, right, gain, reduction="sum")
        np.testing.assert_allclose(value, factor * np.sum(gain * np.sum(left * right, axis=1)))
        np.testing.assert_allclose(gradients["left"], factor * gain[:, None] * right)
        np.testing.assert_allclose(gradients["right"], factor * gain[:, None] * left)


def test_static_functions_are_parts():
    assert weighted_by_static_functions([[1.0, 2.0]], [[3.0, 4.0]]) == 11.0


def test_a_decorated_function_has_the_arguments_that_it_takes():
    def inner(prediction, target, alpha=5.0):
        return alpha * (prediction - target), alpha

    @functools.wraps(inner)
    def outer(prediction, target):
        return inner(prediction, target)

    loss = jitloss.pointwise(outer)
    assert loss([1.0], [0.0]) == 5.0
    with pytest.raises(TypeError, match="alpha"):
        loss([1.0], [0.0], alpha=2.0)


def test_a_default_too_large_for_a_float():
    with pytest.raises(DefinitionError, match="k must be a finite number, got inf as its default"):

        @jitloss.pointwise
        def large(prediction, target, k=10**400):
            return k * prediction, k


# Order ------------------------------------------------------------------------------------------------------------------------


@jitloss.pointwise
def kahans_log1p(prediction, target):
    u = 1.0 + prediction
    return prediction if u == 1.0 else log(u) * prediction / (u - 1.0), 1.0  # noqa: F821


@jitloss.pointwise
def what_a_sum_rounds_away(prediction, target):
    total = prediction + target
    part = total - prediction
    return (prediction - (total - part)) + (target - part), 1.0


@jitloss.rowwise
class compensated_rows:
    def terms(prediction, target):
        total = prediction + target
        return ((prediction - (total - (total - prediction))) + (target - (total - prediction))) * 1e9

    def value(sums):
        return sums, 1.0

    def slope(prediction, factor):
        return factor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [7, 200, 40_000])
def test_compensated_formulas_hold(dtype, size):
    random, eps = np.random.default_rng(0), np.finfo(dtype).eps
    x, zero = (random.random(size) * 50 * eps).astype(dtype), np.zeros(size, dtype)
    np.testing.assert_allclose(kahans_log1p(x, zero, reduction="none"), np.log1p(x), rtol=4 * eps)
    a, b = random.random(size).astype(dtype), (random.random(size) * 1e-3).astype(dtype)
    total = a + b
    part = total - a
    lost = (a - (total - part)) + (b - part)
    assert np.count_nonzero(lost) > size // 2
    np.testing.assert_array_equal(what_a_sum_rounds_away(a, b, reduction="none"), lost)
    rows = compensated_rows(np.tile(a, (3, 1)), np.tile(b, (3, 1)), reduction="none")
    np.testing.assert_allclose(rows, np.sum(lost * dtype(1e9), dtype=np.float64), rtol=1e-4)


def two_numbers(x):
    return x * x, 2.0 * x


@jitloss.pointwise
def pair_with_names(prediction, target):
    pair = value, slope = two_numbers(prediction - target)
    return value, slope + 0.0 * pair[0]


def test_a_pair_and_its_numbers_have_names():
    assert pair_with_names.value_and_gradient([3.0], [1.0]) == (4.0, [4.0])


def or_one(x, k):
    return x if k is None else k * x


def test_many_constants():
    terms = " + ".join(f"{number}.25 * x" for number in range(300))
    scope = {"or_one": or_one}
    body = f"x = prediction - target\n    y = {terms}\n    return or_one(y, None), 1.0"
    exec(f"def long(prediction, target):\n    'A docstring, behind which None has a late place.'\n    {body}", scope)
    assert jitloss.pointwise(scope["long"])([1.0], [0.0]) == sum(number + 0.25 for number in range(300))
