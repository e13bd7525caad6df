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

from jitloss.compilers.cuda.memory import fetch_row, local
from jitloss.compilers.elements import load, spread

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
