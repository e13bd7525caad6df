"""Docstrings and formulas of losses: a definition's own text, with what all losses share put in."""

import inspect
import re

from .definition import Definition
from .options import option_names

__all__ = ["document", "formula"]


def formula(definition: Definition) -> str:
    """The value in LaTeX: the first formula of the docstring, else the source of the definition."""
    found = re.search(r"^\.\. math::[ \t]*\n?((?:[ \t]+\S.*\n?|[ \t]*\n)+|.*)", definition.doc, re.MULTILINE)
    if found:
        return " ".join(line.strip() for line in found.group(1).strip().split("\n\n")[0].splitlines())
    try:
        return "\n".join(inspect.getsource(part.function) for part in definition.parts.values())
    except OSError:  # written at a prompt: there is no source to show
        return definition.doc or definition.name


_OPTIONS = {
    "reduction": """reduction : {"mean", "sum", "none"}, default "mean"
    ``"mean"`` divides the sum by the normalizer, ``"sum"`` does not; ``"none"`` gives the value of each {item} and the gradient of each
    {item}'s own value.""",
    "normalizer": """normalizer : {"count", "weights"} or float, default "count"
    What ``"mean"`` divides by: the number of {item}s{ignored}; the sum of their weights; or a number of yours, the global count of a
    batch that is computed in pieces. Where nothing counts the value is 0.0 and the gradient 0.""",
    "sample_weight": """sample_weight : array, optional
    A weight, not negative, for each {item}, or for all {item}s that share leading axes. Weight 0 gives exactly 0.""",
    "class_weight": """class_weight : array, dict or "balanced", optional
    A weight for each class. ``"balanced"`` computes scikit-learn's balanced weights from the targets.""",
    "axis": """axis : int, default -1
    The axis of a row's elements. An inner axis is read as it lies, without a transposed copy.""",
    "ignore_index": """ignore_index : int or None, default -100
    Rows with this label have value 0 and gradient 0 and are not counted. Any other label that is no class is an error.""",
    "label_smoothing": """label_smoothing : float, default 0.0
    From 0 to 1: the share of each target that is spread over all classes.""",
    "out": """out : array{dict}, optional
    Where the gradient is written: of the shape and dtype of {first}, which it may be; no other overlap is allowed.""",
}

_RETURNS = {
    "value": """float
    The {reduced}; with ``reduction="none"`` an array of the values of the {item}s.""",
    "gradient": """{gradient}
    The gradient of the value with respect to {names}, of the same shape and dtype.""",
    "value_and_gradient": """value : float
    The {reduced}; with ``reduction="none"`` an array of the values of the {item}s.
gradient : {gradient}
    Its gradient with respect to {names}, of the same shape and dtype.""",
    "value_gradient_hessian": """value : float
    The {reduced}; with ``reduction="none"`` an array of the values of the {item}s.
gradient : {gradient}
    Its gradient with respect to {names}, of the same shape and dtype.
hessian : {gradient}
    The diagonal of its second derivative, scaled like the gradient.""",
}

_RAISES = """ValueError, TypeError
    For shapes, dtypes, labels, weights or options that do not fit; the message names the argument. Nothing is written then."""


def document(definition: Definition, kind: str) -> str:
    """The docstring of one form of a loss: the definition's, with the shared options, results and errors in their sections."""
    item = "element" if definition.form == "pointwise" else "row"
    differentiable = [one.public for one in definition.differentiable]
    several = len(differentiable) > 1
    words = {
        "item": item,
        "ignored": " that are not ignored" if definition.takes_labels else "",
        "dict": " or dict of arrays" if several else "",
        "first": "its input" if several else differentiable[0],
        "names": ", ".join(differentiable),
        "gradient": f"dict of arrays ({', '.join(one.name for one in definition.differentiable)})" if several else "array",
        "reduced": "sum" if definition.is_penalty else f"mean over {item}s",
    }
    names = [*option_names(definition), *(() if kind == "value" else ("out",))]
    sections = _sections(definition.doc or definition.name)
    options = "\n".join(_fill(_OPTIONS[name], words) for name in names)
    sections["Parameters"] = "\n".join(part for part in (sections.get("Parameters", ""), options) if part)
    sections["Returns"] = _fill(_RETURNS[kind], words)
    sections["Raises"] = _RAISES
    order = [
        "",
        "Parameters",
        "Returns",
        "Raises",
        *(name for name in sections if name not in ("", "Parameters", "Returns", "Raises")),
    ]
    return "\n\n".join(
        f"{name}\n{'-' * len(name)}\n{sections[name]}" if name else sections[name] for name in order if sections.get(name)
    )


def _fill(text: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        text = text.replace("{" + name + "}", word)
    return text


def _sections(text: str) -> dict[str, str]:
    """A numpydoc docstring by its sections; what stands before the first has the name ''."""
    parts = re.split(r"^(\w[\w ]*)\n-+\n", text, flags=re.MULTILINE)
    found = {"": parts[0].strip()}
    found.update({name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)})
    return found
