"""The reprs of objectives: a search over options shows its best ones by them."""

from typing import Any

__all__ = ["shown"]


def shown(maker: str, /, *arguments: str, **options: Any) -> str:
    """The call that makes an objective; arrays appear by name only."""
    named = (f"{name}={'...' if getattr(value, 'ndim', 0) else repr(value)}" for name, value in options.items())
    return f"{maker}({', '.join([*arguments, *named])})"
