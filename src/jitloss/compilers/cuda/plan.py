"""How a call is spread over a device: what a kernel is compiled for beside its variant."""

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """``threads`` of a block; ``team``, those that share a row; ``width``, neighbouring elements that a thread moves at once.

    ``kept`` is how many such vectors of a row each thread holds in registers; 0 where rows are read again for each pass. ``divided``
    says that the sum is divided by a number that lies on the device.
    """

    threads: int
    team: int
    width: int
    kept: int = 0
    divided: bool = False
