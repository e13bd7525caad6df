"""What a thread keeps of a row in its own memory: the code that reads and unpacks it, compiled for the CPU and run there."""

import ctypes

import ml_dtypes
import numba
import numpy as np
import pytest

import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import types

import jitloss
from jitloss.compilers.cuda.memory import fetch_row, local
from jitloss.compilers.cuda.plan import choose, pieces, split
from jitloss.compilers.elements import load, spread
from kernels import variant

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
COLUMNS, BASE, REACH, VECTORS = 40, 8, 16, 3  # the last vector is beyond the row


def copier(dtype: str, own: str, width: int):
    """Read a thread's vectors, then write each of the numbers that it keeps."""
    stored, kept, real, count = (dtype,), (own,), np.float32, VECTORS * width

    @numba.cfunc(types.void(types.voidptr, types.voidptr, types.int64))
    def copy(source, target, first):  # type: ignore[no-untyped-def]
        taken = local(1, 24)
        for place in range(24):
            spread(taken, place, (real(-1.0),), "float32")
        fetch_row(taken, (source,), BASE, first, COLUMNS, stored, kept, width, VECTORS, REACH, real)
        for place in range(count):
            spread((target,), place, load(taken, place, kept, real), "float32")

    return copy


KINDS = [("bfloat16", "bfloat16"), ("float16", "float16"), ("bfloat16", "float32"), ("float32", "float32")]


@pytest.mark.parametrize(
    ("dtype", "own", "width"),
    [(*kinds, width) for kinds in KINDS for width in (1, 2, 4, 8) if (kinds[0], width) != ("float32", 8)],
)
def test_a_row_is_kept_as_it_is(dtype, own, width):
    source = np.random.default_rng(0).standard_normal(64).astype(DTYPES[dtype])
    target, first = np.empty(VECTORS * width, np.float32), 8
    copier(dtype, own, width).ctypes(*(one.ctypes.data_as(ctypes.c_void_p) for one in (source, target)), first)
    for vector in range(VECTORS):
        column = first + vector * REACH
        if column < COLUMNS:
            want = source[BASE + column : BASE + column + width].astype(np.float32)
            np.testing.assert_array_equal(target[vector * width : (vector + 1) * width], want)
        elif own == "float32":
            assert (target[vector * width : (vector + 1) * width] == -1.0).all()


@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("name", ["cross_entropy_with_logits", "kl_divergence", "triplet_loss"])
def test_rows_that_are_packed_are_kept_and_not_split(name, clusters):
    """Pieces of rows are read by other code, which does not unpack."""
    made, packed = variant(jitloss.LOSSES[name].definition, "bfloat16"), 0
    for columns in (33, 100, 1000, 2048, 4096, 8192, 16384, 32000, 32768, 65536, 128256, 131072, 262144):
        plan = choose(made, columns, 1, True, clusters=clusters)
        parted = split(plan)
        packed += plan.packed
        assert plan.kept or not plan.packed
        for rows in (1, 2, 16, 63, 64):
            assert pieces(parted, rows, columns, 1)[0] == 1 or not parted.packed
    assert packed > 4
