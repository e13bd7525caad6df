"""Docstrings and formulas of losses: a definition's own text, completed with what all losses share.

The page of a loss says what is specific to it: summary, formulas, inputs, parameters, what its value is, notes, examples. The
options, the results of each form and the errors are the same for all losses and are defined here; defaults come from the
definition, so that a loss made by ``with_parameters`` documents its own.
"""

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from .definition import Definition, Input, Parameter
from .options import DEFAULTS, option_names

__all__ = ["document", "entries", "formula", "formula_of_sum", "sections"]

WIDTH = 100
"""Line width of the text that is assembled here."""

_LAYOUT = re.compile(r"^([-*]|\d+\.|\.\.|>>>)\s|^\s|::$", re.MULTILINE)
"""A list, a block or an example: text whose line breaks matter."""

_QUOTED = re.compile(r"``[^`]+``|`[^`]+`")
"""A formula or a name in the text, which is not broken across lines."""

ORDER = ("", "Parameters", "Returns", "Yields", "Raises", "Warns", "Warnings", "See Also", "Notes", "References", "Examples")
"""The sections in numpydoc's order; the text before the first has the name ''."""


# Formulas ---------------------------------------------------------------------------------------------------------------------


def formula(definition: Definition) -> str:
    """The value in LaTeX: the first formula of the docstring, or else the source of the definition."""
    latex = _latex(definition)
    if latex:
        return latex
    try:
        return "\n".join(inspect.getsource(part.function) for part in definition.parts.values())
    except OSError:  # written at a prompt: there is no source to show
        return definition.doc or definition.name


def formula_of_sum(terms: Iterable[tuple[float, Definition]]) -> str:
    """The weighted sum of formulas in LaTeX; a loss without a formula is represented by its name."""
    text = ""
    for weight, definition in terms:
        name = definition.name.replace("_", r"\_")
        latex = _latex(definition) or rf"\operatorname{{{name}}}"
        if weight != 1.0 or (text and latex.startswith("-")):
            latex = f"\\left( {latex} \\right)"
        factor = "" if abs(weight) == 1.0 else f"{abs(weight):g} "
        sign = ("-" if weight < 0.0 else "") if not text else (" - " if weight < 0.0 else " + ")
        text += f"{sign}{factor}{latex}"
    return text


def _latex(definition: Definition) -> str:
    """The first ``.. math::`` block of the docstring on one line, or an empty string."""
    found = re.search(r"^\.\. math::[ \t]*\n?((?:[ \t]+\S.*\n?|[ \t]*\n)+|.*)", definition.doc, re.MULTILINE)
    return " ".join(line.strip() for line in found.group(1).strip().split("\n\n")[0].splitlines()) if found else ""


# What all losses share ----------------------------------------------------------------------------------------------------------

_SUMMARIES = {
    "gradient": "Gradient of {name}.",
    "value_and_gradient": "Value and gradient of {name}, in one pass.",
    "value_gradient_hessian": "Value, gradient and diagonal second derivative of {name}, in one pass.",
}

_DTYPES = {
    "prediction": "float16, bfloat16, float32 or float64; integers are converted to float64.",
    "data": "Any integer, bool or floating dtype.",
    "labels": "Labels have any integer or bool dtype; dense targets may have any floating dtype too.",
}

_OPTIONS = {
    "reduction": (
        '{"mean", "sum", "none"}',
        '``"mean"`` divides the sum over the {item}s by the normalizer, ``"sum"`` does not. ``"none"`` gives the value of each '
        "{item}, and the gradient of each {item}'s own value.",
    ),
    "normalizer": (
        '{"count", "weights"} or float',
        'What ``"mean"`` divides by. ``"count"``: the number of {item}s{counted}. ``"weights"``: {mass}. A positive number: a '
        "count of your own, such as that of the whole batch where it is processed in pieces. Where nothing counts, the value is 0.0 and "
        "the gradient 0.",
    ),
    "sample_weight": (
        "array_like",
        "A weight, finite and not negative, for each {item}, or for all {item}s that share leading axes: its shape is {items}, or a "
        "prefix of that. Weight 0 gives exactly 0, whatever the {item} holds.",
    ),
    "class_weight": (
        'array_like, dict or "balanced"',
        "A weight, finite and not negative, for each class: {classes}. A pandas Series is read like a dict, by its index. Classes that "
        "are not named have weight 1. "
        '``"balanced"`` computes scikit-learn\'s weights from the targets of the call: {item}s / (classes that occur × {item}s '
        "of the class){balanced}.",
    ),
    "axis": ("int", "The axis along which a row lies. An inner axis is read in place, without a transposed copy."),
    "ignore_index": (
        "int or None",
        "Rows with this label have value 0 and gradient 0, whatever their {first} hold, and are not counted. Any other label "
        "that is not a class is an error. None: every label must be a class.",
    ),
    "label_smoothing": (
        "float",
        "A number :math:`s` from 0 to 1: targets become :math:`(1 - s) t + s / C` over :math:`C` classes, labels and dense "
        "targets alike.",
    ),
}

_OUT = {
    "one": "The array that the gradient is written to, with the shape and dtype of {first}; it may be {first} itself. No other "
    "overlap with an array of the call is allowed.",
    "several": "The arrays that the gradients are written to, by the keys of the result: each has the shape and dtype of its input, "
    "and may be that input. No other overlap with an array of the call is allowed.",
    "penalty": "The array that the gradient is written to, with the shape and dtype of ``params``, which it may be; for a dict, a dict "
    "with the same keys.",
    "hessian": "The arrays that gradient and second derivative are written to, in this order; None for a new array. Each has the "
    "shape and dtype of {first}, and one of them may be {first}. No other overlap with an array of the call is allowed.",
    "several hessian": "The arrays that gradients and second derivatives are written to, in this order: dicts with the keys of the "
    "results; None for new arrays. Each array has the shape and dtype of its input. No overlap with an array of the call is allowed, "
    "except with its own input.",
    "penalty hessian": "The arrays that gradient and second derivative are written to, in this order; None for a new array. Each has "
    "the shape and dtype of ``params``, and one of them may be ``params``. For a dict, a dict with the same keys that holds such pairs.",
}

_MEAN = "The mean over the {item}s{counted}."
_SUM = "The sum over all elements, never a mean."
_ITEMS = '``reduction="none"``: an array with the value of each {item}, in the dtype of {first}{mixed}.'
_GRADIENT = {
    "one": "The gradient of the value with respect to {first}, including weights and the divisor of the mean: of the same shape and "
    "dtype.",
    "several": "The gradients of the value, including weights and the divisor of the mean, under the keys {keys}: each has the shape and "
    "dtype of its input.",
    "penalty": "The gradient of the value, of the same shape and dtype as ``params``; for a dict, a dict with the same keys.",
}
_GRADIENT_TYPES = {"one": "array", "several": "dict of arrays", "penalty": "array or dict of arrays"}
_HESSIAN = "The diagonal of the second derivative, with the structure and scale of the gradient."

_RAISES = """ValueError, TypeError
    For shapes, dtypes, labels, weights or options that do not fit; the message names the argument,
    what was given and what is wanted. In that case nothing has been written."""
_NO_HESSIAN = """NotImplementedError
    Always: the diagonal of the second derivative is not defined for this loss."""


# The docstring of a form --------------------------------------------------------------------------------------------------------


def document(definition: Definition, kind: str) -> str:
    """The docstring of one form of a loss: the definition's own, with the shared options, results and errors in their sections."""
    words = _words(definition)
    found = sections(definition.doc)
    found[""] = _opening(definition, found[""], kind)
    found["Parameters"] = "\n".join(_parameters(definition, kind, words))
    refused = kind == "value_gradient_hessian" and not definition.hessian
    found["Returns"] = "" if refused else _returns(definition, kind, found.get("Returns", ""), words)
    errors = (found.get("Raises", ""), _NO_HESSIAN if refused else _RAISES)
    found["Raises"] = "\n".join(part for part in errors if part)
    order = dict.fromkeys((*ORDER, *found))
    return "\n\n".join(f"{name}\n{'-' * len(name)}\n{found[name]}" if name else found[name] for name in order if found.get(name))


def _opening(definition: Definition, text: str, kind: str) -> str:
    """The text before the first section: which form of a loss this is, and the definition's own text."""
    if definition.sum_of:
        text = textwrap.fill(f"Weighted sum of {', '.join(member.name for member in definition.members)}.", WIDTH)
    parts = [textwrap.fill(_SUMMARIES[kind].format(name=definition.name), WIDTH)] if kind in _SUMMARIES else []
    return "\n\n".join([*parts, text or f"{definition.name}."])


def _between(definition: Definition) -> str:
    """What class weights do to a target that is neither 0 nor 1."""
    if definition.target is None or not definition.target.space.graded:
        return ""
    return "; an element with a target :math:`t` between them has the weight :math:`(1 - t) w_0 + t w_1`"


def _words(definition: Definition) -> dict[str, str]:
    """The phrases that the shared texts use for this loss."""
    pointwise, labels = definition.form == "pointwise", definition.takes_labels
    first = f"``{definition.inputs[0].public}``"
    mass = "the sum of their sample weights"
    if "class_weight" in option_names(definition):
        mass = "the sum of sample weight times class weight"
    if labels:
        mass += (
            " of the true label, which is PyTorch's rule; with class weights, a row of dense targets has the sum of target "
            "times class weight, where PyTorch divides by the number of rows"
        )
    return {
        "item": "element" if pointwise else "row",
        "items": f"that of {first}" if pointwise else f"that of {first} without ``axis``",
        "first": first,
        "mixed": ""
        if len(definition.differentiable) == 1
        else ", or where dtypes differ that of the arithmetic, float32 or float64",
        "counted": " that are not ignored" if labels else "",
        "mass": mass,
        "classes": "an array with one for each, or a dict by label"
        if labels
        else f"a pair for the targets 0 and 1, or a dict by them{_between(definition)}",
        "balanced": "; dense targets are counted by their sums" if labels else ", which needs targets that are 0 or 1",
        "keys": ", ".join(f'``"{one.name}"``' for one in definition.differentiable),
    }


# Parameters ---------------------------------------------------------------------------------------------------------------------


def _parameters(definition: Definition, kind: str, words: Mapping[str, str]) -> list[str]:
    """The entries of all arguments in the order of the signature: the definition's own text first, else one made from its spaces."""
    written: dict[str, tuple[str, str]] = {}
    for member in definition.members:
        for name, (typed, text) in entries(sections(member.doc).get("Parameters", "")).items():
            written.setdefault(name, (_without_default(typed), text))
    parts = [_input(one, written.get(one.public) or written.get(one.name)) for one in definition.inputs]
    own = sorted(definition.parameters, key=lambda one: one.keyword_only)
    parts += [_entry(one.name, *(written.get(one.name) or _described(one)), default=one.default) for one in own]
    parts += [_entry(name, *_option(name, words), default=DEFAULTS[name]) for name in option_names(definition)]
    if kind != "value":
        parts.append(_entry("out", *_out(definition, kind, words), default=None))
    return parts


def _input(one: Input, written: tuple[str, str] | None) -> str:
    kind, text = written or ("array_like", f"{_capital(one.space.description)}{', one for each row' if one.per_row else ''}.")
    dtypes = "prediction" if one.differentiable else "labels" if one.space.name == "classes" else "data"
    return _entry(one.public, kind, f"{text} {_DTYPES[dtypes]}")


def _described(one: Parameter) -> tuple[str, str]:
    """The entry of a parameter that the docstring leaves out, made from the values that it may take."""
    if isinstance(one.default, bool):
        return "bool", "True or False."
    values = _capital(one.range.description)
    return ("float or None", f"{values}; off where None.") if one.optional else ("float", f"{values}.")


def _option(name: str, words: Mapping[str, str]) -> tuple[str, str]:
    kind, text = _OPTIONS[name]
    return kind, text.format(**words)


def _out(definition: Definition, kind: str, words: Mapping[str, str]) -> tuple[str, str]:
    name = _shape_of_gradient(definition)
    if kind == "value_gradient_hessian" and definition.hessian:
        pair = {"one": "hessian", "several": "several hessian", "penalty": "penalty hessian"}[name]
        return "tuple of two", _OUT[pair].format(**words)
    return _GRADIENT_TYPES[name], _OUT[name].format(**words)


def _shape_of_gradient(definition: Definition) -> str:
    return "penalty" if definition.is_penalty else "one" if len(definition.differentiable) == 1 else "several"


def _entry(name: str, kind: str, text: str, **default: Any) -> str:
    """One argument in numpydoc's format, with its actual default."""
    kinds = ", ".join(part for part in (kind, *(f"default {_shown(one)}" for one in default.values())) if part)
    head = f"{name} : {kinds}" if kinds else name
    return f"{head}\n{_wrapped(text)}" if text else head


def _shown(default: Any) -> str:
    return f'"{default}"' if isinstance(default, str) else repr(default)


# Returns ------------------------------------------------------------------------------------------------------------------------


def _returns(definition: Definition, kind: str, own: str, words: Mapping[str, str]) -> str:
    """The results of a form; the definition's own Returns section may describe the value."""
    shape = _shape_of_gradient(definition)
    value = _value(own) or (_SUM if definition.is_penalty else _MEAN.format(**words))
    results = {
        "value": ("float", value if definition.is_penalty else f"{value} {_ITEMS.format(**words)}"),
        "gradient": (_GRADIENT_TYPES[shape], _GRADIENT[shape].format(**words)),
        "hessian": (_GRADIENT_TYPES[shape], _HESSIAN),
    }
    if kind in results:
        return "\n".join((results[kind][0], _wrapped(results[kind][1])))
    names = ("value", "gradient", "hessian")[: 2 if kind == "value_and_gradient" else 3]
    return "\n".join(_entry(name, *results[name]) for name in names)


def _value(own: str) -> str:
    """The description of the first result in a Returns section."""
    return next((text for _, text in entries(own).values()), "")


# Text ---------------------------------------------------------------------------------------------------------------------------


def _wrapped(text: str) -> str:
    """The paragraphs of a description, indented and filled; lists and blocks keep their line breaks."""
    fill = textwrap.TextWrapper(
        WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
    )
    parts = []
    for paragraph in re.split(r"\n[ \t]*\n", text.strip("\n")):
        if _LAYOUT.search(paragraph):
            parts.append(textwrap.indent(paragraph, "    "))
        else:
            whole = _QUOTED.sub(lambda found: found[0].replace(" ", "\0"), " ".join(paragraph.split()))
            parts.append(fill.fill(whole).replace("\0", " "))
    return "\n\n".join(parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# Numpydoc -----------------------------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """A numpydoc docstring by section; the text before the first has the name ''."""
    parts = re.split(r"^(\w[\w ]*)\n-+\n", text, flags=re.MULTILINE)
    found = {"": parts[0].strip()}
    found.update({name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)})
    return found


def entries(text: str) -> dict[str, tuple[str, str]]:
    """The arguments that a Parameters section describes: for each name its type and its text."""
    parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    found = {}
    for part in filter(None, parts):
        head, _, body = part.partition("\n")
        names, _, kind = head.partition(":")
        for name in names.split(","):
            found[name.strip()] = (kind.strip(), textwrap.dedent(body).strip())
    return found


def _without_default(kind: str) -> str:
    return re.sub(r",\s*(default\b.*|optional)$", "", kind)
