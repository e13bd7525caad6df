"""``jitloss evaluate``: a loss of .npy files, with bounded memory."""

import argparse
import os
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import jitloss

from ..bench.progress import DELAY, progress
from ..call import Wants
from ..definition import Definition
from ..documentation import entries, sections
from .blocks import Whole
from .common import CommandError, find_loss, summary
from .files import NewArray, Source, new_files, same_file

__all__ = ["add_arguments", "command"]

HELP = "the value of a loss of .npy files and, as another file, its gradient; files may be larger than memory"
_FILES = ("sample_weight", "class_weight")
"""Options whose value is an array, given as a file."""
_METAVARS = {
    "reduction": "mean|sum|none",
    "normalizer": "count|weights|NUMBER",
    "sample_weight": "W.npy",
    "class_weight": "balanced|W.npy",
    "pos_weight": "balanced|NUMBER",
    "axis": "N",
    "ignore_index": "N|none",
}
_HELP = {
    "params": "Trained parameters, any real numbers, of any shape. float16, float32 or float64; integers are converted to float64.",
    "class_weight": "balanced, or a file with a weight, not negative, for each class. Default: none.",
}
"""Help texts where a file differs from the argument of a call."""


# The command line: everything about a loss is made from its definition and its docstring ---------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = f"{parser.prog} LOSS FILE.npy … [--gradient OUT.npy] [options]"
    width, columns = max(map(len, jitloss.LOSSES)) + 4, shutil.get_terminal_size().columns - 2
    losses = "\n".join(
        textwrap.fill(f"{f'  {name}':{width}}{summary(loss)}", max(columns, 2 * width), subsequent_indent=" " * width)
        for name, loss in jitloss.LOSSES.items()
    )
    parser.epilog = f"losses:\n{losses}\n\n{parser.prog} LOSS --help shows the files and the options of a loss."
    parser.add_argument("loss", metavar="LOSS", help="the name of a loss")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="FILE.npy …", help="the arrays of the loss, then its options")


def loss_parser(loss: jitloss.Loss, base: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of one loss. Values are passed on unchecked: the loss itself checks them."""
    definition, helps = loss.definition, _helps(str(loss.value.__doc__)) | _HELP
    parser = type(base)(prog=f"{base.prog} {loss.__name__}", label=base.prog, description=summary(loss), allow_abbrev=False)  # type: ignore[call-arg]
    files = " ".join(f"{one.public.upper()}.npy" for one in definition.inputs)
    parser.usage = f"{parser.prog} {files} [--gradient OUT.npy] [options]"
    for one in definition.inputs:
        parser.add_argument(one.public, metavar=f"{one.public.upper()}.npy", help=helps.get(one.public))
    several = [f"OUT.{one.name}.npy" for one in definition.differentiable] if len(definition.differentiable) > 1 else []
    where = "OUT.npy" if not several else ", ".join(several)
    parser.add_argument(
        "--gradient", metavar="OUT.npy", help=f"write the gradient to {where}; an older file stays until it is complete"
    )
    if not definition.is_penalty:
        parser.add_argument(
            "--values", metavar="OUT.npy", help="with --reduction none: write the values of the items to this file"
        )
    for name, default in _options(loss).items():
        flag, about = f"--{name.replace('_', '-')}", {"dest": name, "default": argparse.SUPPRESS, "help": helps.get(name)}
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **about)  # type: ignore[arg-type]
        else:
            read = _word if isinstance(default, str) else _word_or_none  # reduction: "none" is one of its words
            parser.add_argument(flag, type=read, metavar=_metavar(definition, name), **about)  # type: ignore[arg-type]
    return parser


def _options(loss: jitloss.Loss) -> dict[str, Any]:
    """The loss's own parameters and the options that apply to it, with their defaults."""
    return {one.name: one.default for one in loss.__signature__.parameters.values() if one.default is not one.empty}


def _metavar(definition: Definition, name: str) -> str:
    optional = any(one.optional for one in definition.parameters if one.name == name)
    return _METAVARS.get(name) or ("NUMBER|none" if optional else "NUMBER")


def _word(text: str) -> int | float | str:
    """An integer, a number, or else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _word_or_none(text: str) -> int | float | str | None:
    return None if text.lower() == "none" else _word(text)


def _helps(doc: str) -> dict[str, str]:
    """The description of each parameter in a numpydoc docstring, as a text for ``--help``."""
    helps = {}
    for name, (kind, text) in entries(sections(doc).get("Parameters", "")).items():
        default = re.search(r"default (.*)", kind)
        words = " ".join(text.split()) + (f" Default: {default.group(1)}." if default else "")
        words = words.replace("bfloat16, ", "")  # a dtype that .npy files do not support
        words = re.sub(r":math:`([^`]*)`", lambda formula: _plain(formula[1]), words.replace("``", "").replace("None", "none"))
        helps[name] = re.sub(r" \[\d+\]_", "", words).replace("%", "%%")
    return helps


def _plain(formula: str) -> str:
    """A formula for the terminal: names of functions and letters, without TeX markup."""
    return re.sub(r"[\\{}]", "", formula.replace(r"\pm ", "±"))


# The work ---------------------------------------------------------------------------------------------------------------------


def command(arguments: argparse.Namespace) -> None:
    loss = find_loss(arguments.loss)
    given = vars(loss_parser(loss, arguments.parser).parse_args(arguments.rest))
    gradient, values = given.pop("gradient"), given.pop("values", None)
    sources = _open(loss.definition, given)
    options = {**given, **{name: source.array for name, source in sources.items()}}
    _check_outputs(loss.definition, options, gradient, values, list(sources.values()))
    try:
        value = _evaluate(loss.definition, options, sources, gradient, values)
    except (ValueError, TypeError) as error:  # the loss's own message about its arguments
        raise CommandError(str(error)) from None
    except MemoryError:
        raise CommandError("there is not enough memory for one block of these arrays") from None
    if value is not None:
        print(repr(value))


def _open(definition: Definition, given: dict[str, Any]) -> dict[str, Source]:
    """Open the inputs, and the options that are arrays, by name."""
    sources = {one.public: Source(given.pop(one.public), one.public) for one in definition.inputs}
    for name in _FILES:
        value = given.get(name)
        if value is None or (name == "class_weight" and value == "balanced"):
            continue
        if name == "class_weight" and not str(value).endswith(".npy") and not os.path.exists(str(value)):
            raise CommandError(
                f"class_weight: wanted 'balanced' or an .npy file with a weight for each class, got {str(value)!r}"
            )
        sources[name] = Source(str(given.pop(name)), name)
    return sources


def _check_outputs(
    definition: Definition, options: Mapping[str, Any], gradient: str | None, values: str | None, sources: list[Source]
) -> None:
    items = _wants_items(definition, options)
    if items and gradient is None and values is None:
        raise CommandError(
            "with reduction 'none' there is no single value to print: give --values OUT.npy, --gradient OUT.npy or both"
        )
    if values is not None and not items:
        raise CommandError("--values is for the values of the items: it needs --reduction none")
    outputs = [("--gradient", path) for path in _gradient_paths(definition, gradient).values()]
    outputs += [("--values", values)] if values is not None else []
    for position, (option, path) in enumerate(outputs):
        for source in sources:
            if same_file(path, source.path):
                raise CommandError(f"{option} {path!r} is the file of {source.argument}: an input is not overwritten")
        if any(same_file(path, other) for _, other in outputs[:position]):
            raise CommandError(f"--gradient and --values are the same file, {path!r}")


def _gradient_paths(definition: Definition, gradient: str | None) -> dict[str, str]:
    """A file for each differentiable input: OUT.npy, or OUT.anchor.npy and so on where there are several."""
    names = [one.name for one in definition.differentiable]
    if gradient is None:
        return {}
    if len(names) == 1:
        return {names[0]: gradient}
    path = Path(gradient)
    stem = path.stem if path.suffix == ".npy" else path.name
    return {name: os.path.join(os.path.dirname(gradient), f"{stem}.{name}.npy") for name in names}


def _evaluate(
    definition: Definition, options: Mapping[str, Any], sources: Mapping[str, Source], gradient: str | None, values: str | None
) -> float | None:
    """The value, after all requested files have been written; None where there is no single value."""
    whole, items = Whole(definition, options), _wants_items(definition, options)
    wants = Wants(value=values is not None or not items, gradient=gradient is not None, hessian=False)
    news: list[NewArray] = []
    with new_files() as files:

        def new(path: str, option: str, shape: tuple[int, ...], name: str) -> np.ndarray:
            file = NewArray(path, option)
            files.append(file)
            news.append(file)
            return file.allocate(shape, whole.dtypes[name])

        paths = _gradient_paths(definition, gradient)
        gradients = {name: new(path, "--gradient", whole.geometry.shape, name) for name, path in paths.items()}
        of_items = None if values is None else new(values, "--values", whole.geometry.items, definition.inputs[0].name)
        with progress(len(whole.cuts) * whole.passes, DELAY) as step:

            def after_block(written: bool) -> None:
                for source in sources.values():
                    source.release()
                for file in news if written else []:
                    file.release(1 / len(whole.cuts))
                step(definition.name)

            totals = whole.survey(after_block)
            value = whole.run(wants, totals, gradients, of_items, after_block)
    return None if items else value


def _wants_items(definition: Definition, options: Mapping[str, Any]) -> bool:
    return not definition.is_penalty and options.get("reduction") == "none"
