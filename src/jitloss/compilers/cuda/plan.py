"""How a call is spread over a device: what a kernel is compiled for beside its variant, and how many blocks run it."""

from dataclasses import dataclass, replace

from ..elements import ITEMSIZE
from ..variant import Variant
from .memory import WARP

__all__ = ["MOST_BLOCKS", "MOST_KEPT", "MOST_VECTORS", "Plan", "blocks", "choose", "counting_blocks", "pieces", "split"]

MOST_BLOCKS = 2048
"""Blocks of a grid; they take what is left in turns. It does not depend on the device, and so neither do the bits of a sum."""

MOST_KEPT = 32
"""Elements of a row, of all inputs together, that a thread holds in registers; half as many in float64."""

MOST_VECTORS = 8
"""Vectors of a row that a thread holds: each has an address of its own."""

MOST_COUNTING_BLOCKS = 64

FEW_ROWS = 64
"""Rows below which a row is shared by several blocks, if it is long."""

_SIMULATED_TEAM = 4


@dataclass(frozen=True)
class Plan:
    """``threads`` of a block; ``team``, those that share a row; ``width``, neighbouring elements that a thread moves at once.

    ``kept`` is how many such vectors of a row each thread holds in registers; 0 where rows are read again for each pass. ``divided``
    says that the sum is divided by a number that lies on the device. ``labels`` and ``weights`` are the dtypes of integer labels
    and sample weights.
    """

    threads: int
    team: int
    width: int
    kept: int = 0
    divided: bool = False
    labels: str = "int64"
    weights: str = "float32"


def choose(
    variant: Variant, columns: int, inner: int, aligned: bool, *, divided: bool = False, labels: str = "int64", weights: str = ""
) -> Plan:
    """The plan for rows of so many columns; ``aligned`` says that every array starts at a multiple of 16 bytes."""
    last = (divided, labels, weights or variant.working)
    first = ITEMSIZE[variant.inputs[0]]
    if variant.definition.form == "pointwise":
        return Plan(_threads(256), 1, 16 // first if aligned else 1, 0, *last)
    if inner > 1:
        return Plan(_threads(128), 1, 1, 0, *last)
    width = 16 // first if aligned and columns % (16 // first) == 0 else 1
    vectors, inputs = -(-columns // width), _read_by_element(variant)
    if WARP == 1:
        return Plan(_SIMULATED_TEAM, _SIMULATED_TEAM, width, _kept(vectors, _SIMULATED_TEAM, MOST_VECTORS), *last)
    most = _most_vectors(variant, width, inputs)
    if vectors <= WARP * most:
        team = min(WARP, 1 << (vectors - 1).bit_length())
        return Plan(128, team, width, _kept(vectors, team, most), *last)
    threads = next((size for size in (256, 512) if vectors <= size * most), 1024)
    if threads == 1024 and (inputs > 1 or variant.working == "float64"):
        most //= 2  # 64 registers are what a thread of so large a block has
    return Plan(threads, threads, width, _kept(vectors, threads, most), *last)


def _most_vectors(variant: Variant, width: int, inputs: int) -> int:
    values = MOST_KEPT // 2 if variant.working == "float64" else MOST_KEPT
    return max(1, min(MOST_VECTORS, values // (width * inputs)))


def _threads(wanted: int) -> int:
    return _SIMULATED_TEAM if WARP == 1 else wanted


def _kept(vectors: int, team: int, most: int) -> int:
    """Vectors of a row for each thread, rounded up to a power of two so that few kernels serve all rows; 0 for too many."""
    needed = 1 << (-(-vectors // team) - 1).bit_length()
    return needed if needed <= most else 0


def _read_by_element(variant: Variant) -> int:
    """How many inputs are read for each element: labels and numbers of a row are not."""
    labels = variant.targets == "labels"
    return sum(not one.per_row and not (labels and one is variant.definition.target) for one in variant.definition.inputs)


def blocks(plan: Plan, pointwise: bool, count: int) -> int:
    """Blocks for so many elements or rows."""
    each = plan.threads * plan.width if pointwise else plan.threads // plan.team
    return max(1, min(MOST_BLOCKS, -(-count // each)))


def counting_blocks(threads: int, rows: int) -> int:
    """Blocks that count rows; every block of the loss reads what each of them has found."""
    return max(1, min(MOST_COUNTING_BLOCKS, -(-rows // (4 * threads))))


def pieces(plan: Plan, rows: int, columns: int, inner: int) -> tuple[int, int]:
    """Into how many pieces rows are split, and how long one is: several where rows are too few to occupy a device."""
    reach = plan.threads * plan.width
    if plan.team < plan.threads or inner > 1 or rows >= FEW_ROWS:
        return 1, columns
    most = min(-(-2 * FEW_ROWS // rows), columns // (4 * reach))
    if most < 2:
        return 1, columns
    length = -(-columns // (most * reach)) * reach
    return -(-columns // length), length


def split(plan: Plan) -> Plan:
    """The plan for pieces of rows, which are read in each pass."""
    return replace(plan, threads=min(plan.threads, 512), team=min(plan.team, 512), kept=0)
