"""What a user reads: docstrings, formulas and signatures of every form of every loss, and the stubs that editors read."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import io
import math
import pkgutil
import pydoc
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.mathtext import MathTextParser

import jitloss
from cases import ALL, Case, draw
from jitloss import documentation

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_stubs.py"
STUB = Path(jitloss.__file__).with_suffix(".pyi")

KINDS = ("value", "gradient", "value_and_gradient", "value_gradient_hessian")
FORMS = [pytest.param(getattr(loss, kind), id=f"{loss.__name__}-{kind}") for loss in ALL for kind in KINDS]
LOSSES = [pytest.param(loss, id=loss.__name__) for loss in ALL]
FUNCTIONS = [name for name in jitloss.__all__ if inspect.isfunction(getattr(jitloss, name))]

ORDER = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")


def sections(text: str) -> dict[str, str]:
    """A docstring by its underlined titles; what stands before them has the name ''."""
    parts = re.split(r"^(\S.*)\n-{3,}\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def heads(section: str) -> dict[str, str]:
    """The entries of a section: the name before the colon and what stands after it."""
    return {head.partition(" : ")[0]: head.partition(" : ")[2] for head in re.findall(r"^\S.*$", section, re.MULTILINE)}


def blocks(text: str) -> list[str]:
    """The formulas that stand on lines of their own."""
    found = re.findall(r"^\.\. math::\n\n((?:    .*\n)+)", text, re.MULTILINE)
    return [" ".join(line.strip() for line in one.splitlines()) for one in found]


# Docstrings -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_argument_is_documented_in_the_order_of_the_signature_with_its_default(form: Any) -> None:
    entries = heads(sections(form.__doc__)["Parameters"])
    arguments = inspect.signature(form).parameters
    assert list(entries) == list(arguments)
    for name, argument in arguments.items():
        kind, _, default = entries[name].partition(", default ")
        assert kind
        if argument.default is argument.empty:
            assert not default
        else:
            assert ast.literal_eval(default) == argument.default
            assert type(ast.literal_eval(default)) is type(argument.default)


@pytest.mark.parametrize("form", FORMS)
def test_sections_are_there_in_numpydocs_order(form: Any) -> None:
    found = list(sections(form.__doc__))[1:]
    assert found == [name for name in ORDER if name in found]
    optional = {"References", *(["Returns"] if "NotImplementedError" in sections(form.__doc__)["Raises"] else [])}
    assert set(ORDER) - set(found) <= optional
    assert all(text.strip() for text in sections(form.__doc__).values())


@pytest.mark.parametrize("form", FORMS)
def test_a_docstring_starts_with_one_line_and_fits_a_terminal(form: Any) -> None:
    lines = form.__doc__.splitlines()
    assert lines[0].endswith(".")
    assert lines[1] == ""
    assert max(map(len, lines)) <= 100
    assert form.__doc__ == inspect.cleandoc(form.__doc__)
    assert not re.search(r"\{(item|first|names|counted|mass|keys|summary|name)\}", form.__doc__)
    if form.__name__ not in jitloss.LOSSES:
        assert form.__doc__.splitlines()[0].find(f" of {form.loss.__name__}") > 0


@pytest.mark.parametrize("form", FORMS)
def test_results_are_named_as_they_come_out(form: Any) -> None:
    definition, kind = form.loss.definition, form.kind
    returns = sections(form.__doc__).get("Returns", "")
    if kind == "value_gradient_hessian" and not definition.hessian:
        assert not returns
        with pytest.raises(NotImplementedError):
            form(*draw(Case(form.loss), Case(form.loss).shape))
        return
    names = ["float"] if kind == "value" else ["value", "gradient", "hessian"] if "and" not in kind else ["value", "gradient"]
    shape = "array or dict of arrays" if definition.is_penalty else "array"
    shape = "dict of arrays" if len(definition.differentiable) > 1 else shape
    if kind == "gradient":
        assert list(heads(returns)) == [shape]
    else:
        assert heads(returns) == dict(zip(names, ["" if kind == "value" else "float", shape, shape], strict=False))
    if kind != "value" and shape == "dict of arrays":
        assert all(f'"{one.name}"' in returns for one in definition.differentiable)
    if kind != "gradient":
        assert ("never a mean" if definition.is_penalty else "The mean over the") in returns


@pytest.mark.parametrize("loss", LOSSES)
def test_all_forms_share_what_the_definition_says(loss: Any) -> None:
    documents = [sections(getattr(loss, kind).__doc__) for kind in KINDS]
    for document in documents[1:]:
        assert document[""].endswith(documents[0][""])
        for name in ("See Also", "Notes", "References", "Examples"):
            assert document.get(name) == documents[0].get(name)


@pytest.mark.parametrize("loss", LOSSES)
def test_citations_references_and_names_of_other_losses_lead_somewhere(loss: Any) -> None:
    document = loss.__doc__
    cited = set(re.findall(r"\[(\d+)\]_", document))
    assert cited == set(re.findall(r"^\.\. \[(\d+)\] ", document, re.MULTILINE))
    neighbours = list(heads(sections(document)["See Also"]))
    mentioned = re.findall(r":func:`(\w+)`", document)
    assert neighbours
    assert loss.__name__ not in neighbours
    assert {*neighbours, *mentioned} <= set(jitloss.LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_docs_belong_to_the_loss_and_not_to_its_class(loss: Any) -> None:
    assert inspect.getdoc(loss) == loss.__doc__ == loss.value.__doc__
    assert loss.__doc__.startswith(loss.definition.doc.splitlines()[0])
    for one in (loss, getattr(jitloss, f"{loss.__name__}_gradient")):
        shown = pydoc.render_doc(one, renderer=pydoc.plaintext)
        assert one.__name__ in shown
        assert all(line.strip() in shown for line in one.__doc__.splitlines())
    assert str(inspect.signature(loss)).startswith(f"({loss.definition.inputs[0].public}")


@pytest.mark.parametrize("kind", [jitloss.Loss, jitloss.Form, jitloss.Penalty, type(jitloss.elastic_net.gradient)])
def test_classes_have_a_docstring_of_their_own(kind: type) -> None:
    assert isinstance(kind.__doc__, str)
    assert kind.__doc__.split()[0] in ("A", "One")
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    assert all(line.strip() in shown for line in kind.__doc__.splitlines())


def test_help_prints_the_docstring() -> None:
    output = io.StringIO()
    pydoc.Helper(output=output)(jitloss.huber_loss)
    assert "delta : float, default 1.0" in output.getvalue()
    assert "Robust Estimation" in output.getvalue()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_document_every_argument(name: str) -> None:
    function = getattr(jitloss, name)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    wanted = [stars.get(one.kind, "") + one.name for one in inspect.signature(function).parameters.values()]
    found = sections(inspect.getdoc(function))
    assert re.sub(r",\s*", " ", " ".join(heads(found["Parameters"]))).split() == wanted
    assert list(found)[1:] == [one for one in ORDER if one in found]


# Formulas ---------------------------------------------------------------------------------------------------------------------


def balanced(latex: str) -> bool:
    depth = 0
    for one in re.findall(r"\\.|[{}]", latex):
        depth += {"{": 1, "}": -1}.get(one, 0)
        if depth < 0:
            return False
    pairs = ((r"\\left\b", r"\\right\b"), (r"\\begin\b", r"\\end\b"))
    return depth == 0 and all(len(re.findall(one, latex)) == len(re.findall(other, latex)) for one, other in pairs)


def test_balance_is_looked_at() -> None:
    assert balanced(r"\left( \frac{a}{b} \right)")
    assert not balanced(r"\frac{a}{b")
    assert not balanced(r"}{")
    assert not balanced(r"\left( a")


@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient_have_a_formula(loss: Any) -> None:
    value, gradient, *_ = blocks(sections(loss.__doc__)[""])
    assert loss.formula == value
    assert value != gradient
    assert r"\sum" in value
    assert "gradient" in loss.__doc__.partition(".. math::")[2].partition(".. math::")[0]
    assert "second derivative" in sections(loss.__doc__)[""] or not loss.definition.hessian or "focal" in loss.__name__
    for one in loss.definition.parameters:
        assert one.name in loss.__doc__


@pytest.mark.parametrize("loss", LOSSES)
def test_formulas_are_latex(loss: Any) -> None:
    formulas = [*blocks(loss.__doc__), *re.findall(r":math:`([^`]*)`", loss.__doc__)]
    assert len(formulas) > 2
    parse = MathTextParser("path").parse
    for one in formulas:
        assert one == one.strip()
        assert "\n" not in one
        assert balanced(one)
        if r"\begin" not in one:  # a case distinction is more than mathtext knows
            parse(f"${one}$")


def test_the_formula_of_a_sum() -> None:
    mse, l1, bce = jitloss.mse_loss.formula, jitloss.l1_loss.formula, jitloss.binary_cross_entropy.formula
    assert (jitloss.mse_loss + 0.5 * jitloss.l1_loss).formula == rf"{mse} + 0.5 \left( {l1} \right)"
    assert (jitloss.mse_loss - jitloss.l1_loss).formula == rf"{mse} - \left( {l1} \right)"
    assert (-2 * jitloss.l1_loss).formula == rf"-2 \left( {l1} \right)"
    focal = jitloss.focal_loss.formula
    assert (jitloss.binary_cross_entropy + jitloss.focal_loss).formula == rf"{bce} + \left( {focal} \right)"


def test_a_loss_without_a_formula_shows_its_source_and_its_name_in_a_sum() -> None:
    @jitloss.pointwise
    def plain_loss(prediction, target):
        return prediction - target, 1.0

    assert "return prediction - target, 1.0" in plain_loss.formula
    assert (plain_loss + jitloss.l1_loss).formula == rf"\operatorname{{plain\_loss}} + {jitloss.l1_loss.formula}"


# Docstrings of custom losses --------------------------------------------------------------------------------------------------


def test_a_custom_loss_documents_what_its_author_left_out() -> None:
    @jitloss.pointwise
    def bare_loss(prediction, target, alpha=1.0, twice=False, cap=None):
        error = prediction - target
        return alpha * error * error, 2.0 * alpha * error

    document = sections(bare_loss.__doc__)
    assert document[""].strip() == "bare_loss."
    assert list(heads(document["Parameters"])) == list(inspect.signature(bare_loss).parameters)
    assert "alpha : float, default 1.0\n    A finite number." in document["Parameters"]
    assert "twice : bool, default False" in document["Parameters"]
    assert "cap : float or None, default None" in document["Parameters"]
    assert "The mean over the elements." in document["Returns"]


def test_a_custom_docstring_is_merged_with_what_all_losses_share() -> None:
    @jitloss.pointwise
    def written_loss(prediction, target, alpha=1.0):
        """Squares, scaled.

        Parameters
        ----------
        alpha : float, default 7.0
            The scale, one of:

            - 1.0, none;
            - 2.0, double.
        prediction, target : array
            Numbers {as} they come.

        Returns
        -------
        float
            The mean of {scaled} squares.

        Raises
        ------
        KeyError
            Never.

        Examples
        --------
        >>> 1 + 1
        2

        Notes
        -----
        None.
        """
        error = prediction - target
        return alpha * error * error, 2.0 * alpha * error

    document = sections(written_loss.value_and_gradient.__doc__)
    assert list(document) == ["", "Parameters", "Returns", "Raises", "Notes", "Examples"]
    assert document[""].split("\n\n")[:2] == ["Value and gradient of written_loss, in one pass.", "Squares, scaled."]
    assert list(heads(document["Parameters"])) == list(inspect.signature(written_loss.value_and_gradient).parameters)
    assert "predictions : array\n    Numbers {as} they come." in document["Parameters"]
    assert "alpha : float, default 1.0\n" in document["Parameters"]
    assert "    - 1.0, none;\n    - 2.0, double.\n" in document["Parameters"]
    assert "value : float\n    The mean of {scaled} squares." in document["Returns"]
    assert list(heads(document["Raises"])) == ["KeyError", "ValueError, TypeError"]


def test_other_defaults_are_documented_as_they_are() -> None:
    wider = jitloss.huber_loss.with_parameters(delta=2.5)
    assert "delta : float, default 2.5\n" in wider.__doc__
    assert "delta : float, default 1.0\n" in jitloss.huber_loss.__doc__


def test_a_sum_documents_the_parameters_of_its_terms() -> None:
    both = jitloss.huber_loss + jitloss.quantile_loss
    document = sections(both.value_and_gradient.__doc__)
    assert document[""].split("\n\n")[1].strip() == "Weighted sum of huber_loss, quantile_loss."
    assert list(heads(document["Parameters"])) == list(inspect.signature(both.value_and_gradient).parameters)
    assert "from squared to linear" in document["Parameters"]
    both = jitloss.binary_cross_entropy_with_logits + jitloss.focal_loss_with_logits  # the first has a parameter without a place
    assert list(heads(sections(both.__doc__)["Parameters"])) == list(inspect.signature(both).parameters)


def test_a_sum_documents_what_terms_share_in_the_words_of_the_first() -> None:
    one, other = jitloss.mse_loss, jitloss.quantile_loss
    parameters = [sections(loss.__doc__)["Parameters"] for loss in (one, other, one + other, other + one)]
    texts = [documentation.entries(text)["predictions"] for text in parameters]
    assert texts[0] != texts[1]
    assert texts[2:] == texts[:2]


def test_sections_of_the_authors_own_come_last() -> None:
    @jitloss.pointwise
    def written_loss(prediction, target):
        """Squares.

        Credits
        -------
        Laplace.

        Notes
        -----
        None.
        """
        error = prediction - target
        return error * error, 2.0 * error

    document = sections(written_loss.__doc__)
    assert list(document) == ["", "Parameters", "Returns", "Raises", "Notes", "Credits"]
    assert document["Credits"] == "Laplace."


def test_formulas_and_names_are_not_broken_over_lines() -> None:
    quoted = re.compile(r"(``?)([^`]+)\1")
    for loss in ALL:
        found = quoted.findall(loss.__doc__)
        assert found
        assert not [one for _, one in found if "\n" in one]
    long = "x " * 40 + "``y = 1`` and :math:`a + b + c + d`"
    assert documentation._wrapped(long).splitlines()[1].strip() == ":math:`a + b + c + d`"


# Examples ---------------------------------------------------------------------------------------------------------------------


FOREIGN = ("compilers.cuda", "jitted.cuda", "arrays.torch", "arrays.jax", "arrays.dask", "torch")
"""Modules that need numba-cuda, or the framework that they adapt."""


def modules() -> list[str]:
    found = (one.name.removeprefix("jitloss.") for one in pkgutil.walk_packages(jitloss.__path__, "jitloss."))
    return ["jitloss", *(f"jitloss.{name}" for name in found if not name.startswith(FOREIGN) and name != "__main__")]


def examples(module: str) -> list[doctest.DocTest]:
    return [one for one in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module)) if one.examples]


EXAMPLES = {
    **{name: doctest.DocTestParser().get_doctest(loss.__doc__, {}, name, None, 0) for name, loss in jitloss.LOSSES.items()},
    **{one.name: one for module in modules() for one in examples(module)},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(EXAMPLES[name], out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("name", jitloss.LOSSES)
def test_examples_show_value_gradient_and_an_option(name: str) -> None:
    source = "".join(one.source for one in EXAMPLES[name].examples)
    assert f"{name}.value_and_gradient(" in source
    options = set(inspect.signature(getattr(jitloss, name).gradient).parameters)
    used = {keyword.arg for call in ast.walk(ast.parse(source)) if isinstance(call, ast.Call) for keyword in call.keywords}
    several_ways = {"cross_entropy_loss"}  # dense targets instead of labels
    assert used & options or name in several_ways
    assert any(one.want for one in EXAMPLES[name].examples)


def test_public_names_that_are_used_by_hand_have_examples() -> None:
    with_examples = {name.rpartition(".")[2] for name in EXAMPLES}
    assert {"pointwise", "rowwise", "weighted_sum", "check_gradient", "errstate"} <= with_examples


# Stubs ------------------------------------------------------------------------------------------------------------------------


def test_the_stubs_are_current(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("make_stubs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--check"])
    code = script.main()
    assert code == 0, capsys.readouterr().out
    monkeypatch.setattr(script, "STUB", Path(__file__))
    assert script.main() == 1


TREE = ast.parse(STUB.read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
VARIABLES = {
    node.target.id: ast.unparse(node.annotation)
    for node in TREE.body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}


def stub_class(form: Any) -> ast.ClassDef:
    """The class of a form, as an editor finds it: by the annotation of the loss, and of its attribute."""
    own = CLASSES[VARIABLES[form.loss.__name__]]
    if form.kind == "value":
        return own
    attributes = {node.target.id: node.annotation.id for node in own.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    return CLASSES[attributes[form.kind]]


def calls(form: Any) -> list[ast.FunctionDef]:
    return [node for node in stub_class(form).body if isinstance(node, ast.FunctionDef)]


def described(call: ast.FunctionDef) -> dict[str, tuple[bool, Any]]:
    """The arguments of a call after ``self``: whether each is by keyword only, and its default; ``...`` where it has none."""
    arguments = call.args
    assert not arguments.vararg
    assert not arguments.kwarg
    assert not arguments.posonlyargs
    missing = [...] * (len(arguments.args) - len(arguments.defaults))
    defaults = [*missing, *(ast.literal_eval(one) for one in arguments.defaults)]
    found = {one.arg: (False, default) for one, default in zip(arguments.args, defaults, strict=True)}
    assert next(iter(found)) == "self"
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[one.arg] = (True, ... if default is None else ast.literal_eval(default))
    return {name: found[name] for name in list(found)[1:]}


@pytest.mark.parametrize("form", FORMS)
def test_stubs_have_the_real_signatures(form: Any) -> None:
    real = {
        one.name: (one.kind is one.KEYWORD_ONLY, ... if one.default is one.empty else one.default)
        for one in inspect.signature(form).parameters.values()
    }
    for number, call in enumerate(calls(form)):
        found = described(call)
        if number and "reduction" in found and ast.unparse(call.returns) != "Any":  # which is for other libraries' arrays
            assert found["reduction"] == (True, ...)  # the overload for reduction="none"
            found["reduction"] = real["reduction"]
        assert list(found) == list(real)
        assert found == real
        assert all(math.isfinite(one) for _, one in found.values() if isinstance(one, float))


@pytest.mark.parametrize("form", FORMS)
def test_stubs_say_what_comes_out(form: Any) -> None:
    definition, kind = form.loss.definition, form.kind
    results = [ast.unparse(call.returns) for call in calls(form) if call.returns]
    if kind == "value_gradient_hessian" and not definition.hessian:
        assert results == ["NoReturn"]
        return
    assert results.pop() == "Any"
    gradients = ["dict[str, _Array]" if len(definition.differentiable) > 1 else "_Array"]
    gradients = ["dict[str, Any]", "_Array"] if definition.is_penalty else gradients
    values = ["float"] if definition.is_penalty else ["float", "_Array"]
    number = {"gradient": 1, "value_and_gradient": 1, "value_gradient_hessian": 2}.get(kind, 0)
    if kind == "value":
        assert results == values
    elif kind == "gradient":
        assert results == gradients
    else:
        assert results == [f"tuple[{', '.join([one, *[other] * number])}]" for one in values for other in gradients]


@pytest.mark.parametrize("loss", LOSSES)
def test_stubs_carry_the_docstring(loss: Any) -> None:
    assert ast.get_docstring(calls(loss.value)[0]) == loss.__doc__
    for kind in KINDS[1:]:
        form = getattr(loss, kind)
        assert ast.get_docstring(calls(form)[0]) == form.__doc__.splitlines()[0]
    assert VARIABLES[f"{loss.__name__}_gradient"] == stub_class(loss.gradient).name


def test_stubs_export_what_the_package_does() -> None:
    imported = {one.asname for node in TREE.body if isinstance(node, ast.ImportFrom) for one in node.names if one.asname}
    assert set(jitloss.__all__) <= imported | set(VARIABLES)
    listed = next(node.value for node in TREE.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    assert ast.literal_eval(listed) == jitloss.__all__
