"""The launch configuration of a call: what a kernel is compiled for besides its variant, and how many blocks run it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from ..elements import ITEMSIZE
from ..variant import Variant
from .exchange import WARP

__all__ = ["Plan", "blocks", "choose", "counting_blocks", "pieces", "split"]

MOST_BLOCKS = 32768
"""Blocks over elements, in a grid-stride loop. It does not depend on the device, and so neither do the bits of a sum."""

MOST_KEPT = 32
"""Elements of a row, over all inputs, that a thread keeps in registers; half as many in float64, and twice as many where they are
packed, which they are if several threads share a row."""

CLUSTER_BLOCKS = 8
"""Blocks of a cluster, which exchange numbers through distributed shared memory: as many as every device with clusters supports."""

MOST_COUNTING_BLOCKS = 64

RESIDENT = 1024
"""Threads that should be resident on a multiprocessor."""

FEW_ROWS = 64
"""Number of rows below which a long row is shared by several blocks."""

_SIMULATED_TEAM, _SIMULATED_MOST = 4, 8


@dataclass(frozen=True)
class Plan:
    """How the kernel of a loss is run.

    ``threads`` per block; ``team``, the threads that share a row; ``width``, consecutive elements that a thread moves at once.

    ``kept`` is how many such vectors of a row each thread keeps in registers; 0 where rows are read again in each pass.
    ``packed`` says that they stay two in a register. ``cluster`` is how many blocks share a row, where the team is a block.
    ``strided`` says that the elements of a row are not contiguous.

    ``divided`` says that the sum is divided by a number that is on the device, and ``here`` that the kernel's only block counts
    that number itself, ``weighted`` or not. ``total`` is what becomes of the sum: a partial sum for each block, the value of the
    loss, or nothing. ``labels`` and ``weights`` are the dtypes of integer labels and sample weights; ``each`` says that every
    element has a sample weight of its own, which is read like the elements.
    """

    threads: int
    team: int
    width: int
    kept: int = 0
    divided: bool = False
    labels: str = "int64"
    weights: str = "float32"
    cluster: int = 1
    strided: bool = False
    here: bool = False
    weighted: bool = False
    total: Literal["parts", "value", "nothing"] = "parts"
    packed: bool = False
    each: bool = False

    @property
    def reach(self) -> int:
        """The distance between vectors of a thread in its row."""
        return self.team * self.cluster * self.width

    @property
    def resident(self) -> int:
        """How many blocks should be resident on a multiprocessor, which limits a thread to 64 registers."""
        return max(1, RESIDENT // self.threads)


def choose(
    variant: Variant,
    columns: int,
    inner: int,
    aligned: bool,
    *,
    divided: bool = False,
    labels: str = "int64",
    weights: str = "",
    each: bool = False,
    clusters: bool = True,
) -> Plan:
    """The plan for rows of so many columns.

    ``aligned`` says that every array starts at a multiple of 16 bytes, ``each`` that there are as many sample weights as
    elements, ``clusters`` that the device supports them.
    """
    last = (divided, labels, weights or variant.working)
    first = ITEMSIZE[variant.inputs[0]]
    if variant.definition.form == "pointwise":
        return Plan(_threads(512), 1, 16 // first if aligned else 1, 0, *last, each=each and variant.weights)
    if inner > 1:
        return Plan(_threads(128), 1, 1, 0, *last, strided=True)
    width = math.gcd(columns, 16 // first) if aligned else 1
    vectors, inputs = -(-columns // width), len(_by_element(variant))
    packed = _packs(variant)
    if WARP == 1:
        kept = _kept(vectors, _SIMULATED_TEAM, _SIMULATED_MOST)
        return Plan(_SIMULATED_TEAM, _SIMULATED_TEAM, width, kept, *last, packed=packed and kept > 0)
    most = _most_vectors(variant, width, inputs)
    if vectors <= most:
        return Plan(128, 1, width, _kept(vectors, 1, most), *last)
    most *= 1 + packed
    if vectors <= WARP * most:
        team = _power(-(-vectors // most))
        return Plan(128, team, width, _kept(vectors, team, most), *last, packed=packed)
    teams = _TEAMS if clusters else _TEAMS_OF_A_BLOCK
    for threads, cluster in (_SMALL_TEAM, *teams) if packed else teams:
        held = most // 2 if threads == 1024 and (inputs > 1 or variant.working == "float64") else most
        if vectors <= threads * cluster * held:
            return Plan(threads, threads, width, _kept(vectors, threads * cluster, held), *last, cluster, packed=packed)
    return Plan(1024, 1024, width, 0, *last)


_TEAMS = ((128, 1), (256, 1), (512, 1), (256, 4), (256, CLUSTER_BLOCKS), (512, CLUSTER_BLOCKS))
"""Threads of a block and blocks of a cluster: small blocks, several of which are resident, so that one computes while another
waits; but blocks of a cluster wait for each other, so rows that would take two of them use one block of twice the threads."""

_SMALL_TEAM = (64, 1)
"""The block for the shortest of the rows whose elements are packed."""

_TEAMS_OF_A_BLOCK = ((128, 1), (256, 1), (512, 1), (1024, 1))
"""The same for devices without clusters."""


def _most_vectors(variant: Variant, width: int, inputs: int) -> int:
    """A power of two, so that few kernels serve all rows."""
    values = MOST_KEPT // 2 if variant.working == "float64" else MOST_KEPT
    return _power(max(1, values // (width * inputs)) + 1) // 2


def _threads(wanted: int) -> int:
    return _SIMULATED_TEAM if WARP == 1 else wanted


def _kept(vectors: int, team: int, most: int) -> int:
    """Vectors of a row for each thread, rounded up to a power of two; 0 for too many."""
    needed = _power(-(-vectors // team))
    return needed if needed <= most else 0


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _by_element(variant: Variant) -> list[str]:
    """The dtypes of the inputs that are read for each element, as opposed to labels and inputs with one number per row."""
    given, target = variant.definition.inputs, variant.definition.target if variant.targets == "labels" else None
    return [dtype for one, dtype in zip(given, variant.inputs, strict=True) if not one.per_row and one is not target]


PACKED = "bfloat16" if WARP > 1 else "float16"
"""The dtype of which two elements can stay in one register: a bfloat16 is a shift away from its float32. Other conversions are
expensive, and compilers would rather keep their results than repeat them. The simulator has no bfloat16."""


def _packs(variant: Variant) -> bool:
    return variant.working == "float32" and all(dtype == PACKED for dtype in _by_element(variant))


def blocks(plan: Plan, pointwise: bool, count: int) -> int:
    """Blocks for so many elements or rows."""
    if pointwise:
        return max(1, min(MOST_BLOCKS, -(-count // (plan.threads * plan.width))))
    return -(-count // (plan.threads // plan.team)) * plan.cluster


def counting_blocks(threads: int, rows: int) -> int:
    """Blocks that count rows; every block of the loss reads all their counts."""
    return max(1, min(MOST_COUNTING_BLOCKS, -(-rows // (4 * threads))))


def pieces(plan: Plan, rows: int, columns: int, inner: int) -> tuple[int, int]:
    """How many pieces rows are split into, and how long one is: several where there are too few rows to occupy a device."""
    if plan.team < plan.threads or inner > 1 or rows >= FEW_ROWS or plan.cluster > 1 or plan.packed:
        return 1, columns
    most = min(-(-2 * FEW_ROWS // rows), columns // (4 * plan.reach))
    if most < 2:
        return 1, columns
    length = -(-columns // (most * plan.reach)) * plan.reach
    return -(-columns // length), length


def split(plan: Plan) -> Plan:
    """The plan for pieces of rows, which are read in each pass."""
    if plan.cluster > 1 or plan.packed:  # these are never split
        return plan
    return replace(plan, threads=min(plan.threads, 512), team=min(plan.team, 512), kept=0)
