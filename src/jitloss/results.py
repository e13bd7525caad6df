"""What frameworks need around a call: results flattened and packed again, parameters as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["flat", "one_or_tuple", "packed", "with_numbers"]

_ARRAYS = ("sample_weight", "class_weight", "out")


def flat(results: Any) -> list[Any]:
    """The results as a flat list: the value, then the gradients one by one."""
    parts = results if isinstance(results, tuple) else (results,)
    return [one for part in parts for one in (part.values() if isinstance(part, Mapping) else (part,))]


def one_or_tuple(results: Sequence[Any]) -> Any:
    """A single result as it is, several as a tuple."""
    return results[0] if len(results) == 1 else tuple(results)


def packed(form: Any, results: Sequence[Any]) -> Any:
    """Flat results in the structure that a form returns."""
    count, parts = len(form.differentiable), list(results[: form.wants.value])
    rest = results[form.wants.value :]
    groups = [rest[start : start + count] for start in range(0, len(rest), count)]
    parts += [dict(zip(form.differentiable.values(), one, strict=True)) if count > 1 else one[0] for one in groups]
    return one_or_tuple(parts)


def with_numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which arrays without axes, which frameworks use for numbers, are replaced by numbers."""
    return {
        name: value.item() if name not in _ARRAYS and getattr(value, "shape", None) == () else value
        for name, value in options.items()
    }
