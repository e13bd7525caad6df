"""Objectives as they were made, for people: what a search over options shows as its best ones."""

from typing import Any

__all__ = ["shown"]


def shown(maker: str, /, *arguments: str, **options: Any) -> str:
    """The call that makes an objective; of arrays only the names."""
    named = (f"{name}={'...' if getattr(value, 'ndim', 0) else repr(value)}" for name, value in options.items())
    return f"{maker}({', '.join([*arguments, *named])})"
