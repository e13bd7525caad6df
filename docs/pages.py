"""Pages that are generated when the site is built: one for each loss, the gallery, and the API reference."""

import re
from pathlib import Path

import figures
from generate import call, cell, described, markdown, sections, table

import jitloss
from jitloss.definition import Definition
from jitloss.options import DEFAULTS, option_names

__all__ = ["write"]

CONVENTIONS = Path(__file__).with_name("conventions.md")

OPTIONS = {
    "reduction": '`"mean"`, `"sum"`, or `"none"` for the value of each item',
    "normalizer": 'what the mean divides by: `"count"`, `"weights"`, or a number',
    "sample_weight": "a weight per item, or per group of items that share leading axes",
    "class_weight": 'a weight for each class: an array, a dict, or `"balanced"`',
    "axis": "the axis of the classes or coordinates",
    "ignore_index": "the label of rows to ignore",
    "label_smoothing": "the amount $s$ of smoothing: targets become $(1 - s) t + s / C$ over $C$ classes",
}
"""What each option is, in one line."""


def write(docs: Path) -> None:
    """Write the files that are missing or have changed."""
    figures.draw(docs / "pictures")
    for loss in jitloss.LOSSES.values():
        _put(docs / "losses" / f"{loss.__name__}.md", page(loss))
    _put(docs / "gallery.md", gallery())
    _put(docs / "api.md", api())


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def page(loss: jitloss.Loss) -> str:
    """A loss: what it is, its picture, arguments, options, differences from other libraries, an example."""
    definition = loss.definition
    parts, texts = sections(definition.doc), described(definition.doc)
    first, _, rest = markdown(parts[""]).partition("\n\n")
    body = [
        f"# {definition.name}", first, f"```text\n{call(definition)}\n```",
        f"![Value, gradient and second derivative](../pictures/losses/{definition.name}.svg)", rest,
        "## Arguments", _arguments(definition, texts), "## Options", _options(loss),
        "## What comes back", _returned(loss, parts),
    ]  # fmt: skip
    if "Notes" in parts:
        body += ["## Conventions, and what differs elsewhere", markdown(parts["Notes"])]
    if same := _elsewhere(definition.name):
        body += ["## The same numbers elsewhere", same]
    if "Examples" in parts:
        body += ["## Example", *_examples(parts["Examples"])]
    if "References" in parts:
        body += ["## References", markdown(parts["References"])]
    return "\n\n".join(body) + "\n"


def _arguments(definition: Definition, texts: dict[str, str]) -> str:
    rows = [("argument", "space", "what it is")]
    rows += [
        (f"`{one.public}`", one.space.name, cell(texts.get(one.public) or one.space.description)) for one in definition.inputs
    ]
    for one in definition.parameters:
        rows.append((f"`{one.name}={one.default!r}`", "parameter", cell(texts.get(one.name) or one.range.description)))
    return table(*rows)


def _options(loss: jitloss.Loss) -> str:
    rows = [(f"`{name}={DEFAULTS[name]!r}`".replace("'", '"'), OPTIONS[name]) for name in option_names(loss.definition)]
    out = table(("option", "what it is"), *rows, ("`out=None`", f"for forms with a gradient: {_out(loss.definition)}"))
    return out if rows else f"{out}\n\nA penalty is a sum, so it has no reduction or item weights."


def _out(definition: Definition) -> str:
    first = f"`{definition.inputs[0].public}`"
    if len(definition.differentiable) > 1:
        names = ", ".join(f"`{one.name}`" for one in definition.differentiable)
        return f"a dict of arrays for the gradients, with the keys {names}; each may be the input itself"
    dicts = ", or a dict of arrays if the input is one" if definition.is_penalty else ""
    return f"an array for the gradient{dicts}; it may be {first} itself"


def _examples(text: str) -> list[str]:
    """Examples as code, and the text between them as text."""
    blocks = re.split(r"\n\n+", text.strip())
    return [f"```python\n{one}\n```" if one.startswith(">>>") else markdown(one) for one in blocks]


def _elsewhere(name: str) -> str:
    """The equivalent calls of other libraries, from the page of conventions, whose tables the tests run."""
    rows, library = [("library", "its call", "jitloss")], ""
    for line in CONVENTIONS.read_text(encoding="utf-8").splitlines():
        library = line.removeprefix("### ") if line.startswith("### ") else library
        found = re.fullmatch(rf"\| (`.+`) \| (`{name}\(.+`) \|", line)
        if found:
            rows.append((library, found[1], found[2]))
    meaning = "The variables are defined in [conventions](../conventions.md#coming-from-another-library)."
    return f"{table(*rows)}\n\n{meaning}" if len(rows) > 1 else ""


def _returned(loss: jitloss.Loss, parts: dict[str, str]) -> str:
    words = " ".join(parts.get("Returns", "").split()).removeprefix("float ")
    hessian = "also returns the diagonal of the second derivative" if loss.definition.hessian else "is not defined for this loss"
    names = [one.name for one in loss.definition.differentiable]
    gradient = (
        "a dict with the keys " + ", ".join(f"`{name}`" for name in names)
        if len(names) > 1
        else "an array like the first argument"
    )
    gradient += ", or a dict with the same keys" if loss.definition.is_penalty else ""
    return f"{markdown(words)} The gradient is {gradient}. `{loss.__name__}.value_gradient_hessian` {hessian}."


def gallery() -> str:
    """Plots, each a link to a page."""
    cards = [":::::{grid} 1 1 2 2\n:gutter: 3\n:class-container: gallery\n"]
    for name, (_, title, link) in figures.GALLERY.items():
        cards.append(
            _card(title, link.removesuffix(".md"), f"pictures/{name}.{'png' if name in ('landscape', 'triplet') else 'svg'}")
        )
    cards.append(_card("Compared with NumPy, PyTorch and JAX", "performance", "compare.png"))
    cards.append(_card("The roofline of every loss", "performance", "roofline.png"))
    curves = [_card(name, f"losses/{name}", f"pictures/losses/{name}.svg") for name in jitloss.LOSSES]
    head = ["# Gallery", "Plotted from the library's own results when these pages are built. Each plot links to its page.\n"]
    every = ["## Every loss\n", ":::::{grid} 1 2 3 3\n:gutter: 2\n:class-container: gallery\n"]
    return "\n".join([*head, *cards, ":::::\n", *every, *curves, ":::::\n"])


def _card(title: str, page: str, picture: str) -> str:
    return f"::::{{grid-item-card}} {title}\n:link: {page}\n:link-type: doc\n\n![{title}]({picture})\n::::\n"


def api() -> str:
    """The public names that are not losses, from their docstrings."""
    losses = {*jitloss.LOSSES, *(f"{name}_gradient" for name in jitloss.LOSSES), "LOSSES"}
    body = [
        "# API reference",
        "Each loss has [a page of its own](choosing-a-loss.md), which describes its call, its forms and its options.",
    ]
    body += [_object("jitloss", name, getattr(jitloss, name)) for name in jitloss.__all__ if name not in losses]
    listed = "[your own loss](your-own-loss.md#what-a-definition-may-call)"
    body.append(f"## Functions of definitions\n\nThe functions that a definition may call are listed in {listed}.")
    body.append("## Objectives")
    body += [_object("jitloss.objectives", name, getattr(jitloss.objectives, name)) for name in ("xgboost", "lightgbm", "scipy")]
    body += [
        "## PyTorch's names",
        "The modules of `jitloss.torch` call these functions: [PyTorch](pytorch.md#under-pytorchs-names).",
    ]
    functions = jitloss.torch.functional
    body += [_object("jitloss.torch", name, getattr(functions, name)) for name in functions.__all__]
    return "\n\n".join(body) + "\n"


def _object(module: str, name: str, value: object) -> str:
    kind = "autoclass" if isinstance(value, type) else "autofunction"
    members = "members" if isinstance(value, type) else ""
    members = {"Form": "", "Definition": "", "DefinitionError": "show-inheritance"}.get(name, members)
    option = f"\n   :{members}:" if members else ""
    return f"## {module}.{name}\n\n```{{eval-rst}}\n.. {kind}:: {module}.{name}{option}\n```"
