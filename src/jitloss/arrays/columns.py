"""Columns of pandas, Polars and Arrow. What is missing in a column is no number, and a loss of it would be none."""

from typing import Any

import numpy as np

__all__ = ["from_arrow", "from_pandas", "from_polars", "to_arrow", "to_polars"]


def _refuse(missing: int, what: str) -> None:
    if missing:
        raise ValueError(f"{what} with {missing} missing value{'s' * (missing > 1)} (nulls): fill or drop them first")


def from_pandas(value: Any) -> np.ndarray:
    """A NaN of a NumPy dtype is a number like others; a missing value of pandas' own dtypes is an error."""
    dtypes = list(value.dtypes) if hasattr(value, "columns") else [getattr(value, "dtype", None)]
    if any(not isinstance(one, (np.dtype, type(None))) for one in dtypes):
        _refuse(int(np.sum(np.asarray(value.isna()))), "a column")
    result: np.ndarray = value.to_numpy()
    return result


def from_polars(value: Any) -> np.ndarray:
    """A series, or a frame whose columns have one dtype."""
    nulls = value.null_count()
    _refuse(int(np.sum(nulls if isinstance(nulls, int) else nulls.to_numpy())), "a column")
    result: np.ndarray = value.to_numpy()
    return result


def to_polars(result: np.ndarray, argument: Any) -> Any:
    """A result as a series of the same name, or a frame of the same columns."""
    if result.ndim == 1:
        import polars

        return polars.Series(getattr(argument, "name", ""), result)
    return type(argument)(result, schema=argument.columns)


def from_arrow(value: Any) -> np.ndarray:
    """An array, or a chunked one, which is copied if it has several chunks."""
    _refuse(value.null_count, "an Arrow array")
    result: np.ndarray = value.to_numpy() if hasattr(value, "chunks") else value.to_numpy(zero_copy_only=False)
    return result


def to_arrow(result: np.ndarray, argument: Any) -> Any:
    import pyarrow

    made = pyarrow.array(result)
    return pyarrow.chunked_array([made]) if hasattr(argument, "chunks") else made
