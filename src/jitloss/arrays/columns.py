"""Columns of pandas, Polars and Arrow. Missing values are rejected: they are not numbers, and a loss of them would not be one."""

from typing import Any

import numpy as np

__all__ = ["from_arrow", "from_pandas", "from_polars", "refuse_lazy", "to_arrow", "to_polars"]


def _refuse(missing: int, what: str) -> None:
    if missing:
        raise ValueError(f"{what} with {missing} missing value{'s' * (missing > 1)} (nulls): fill or drop them first")


def from_pandas(value: Any) -> np.ndarray:
    """A NaN in a NumPy dtype is a number like any other; a missing value in one of pandas' own dtypes is an error."""
    dtypes = list(value.dtypes) if hasattr(value, "columns") else [getattr(value, "dtype", None)]
    if any(not isinstance(one, (np.dtype, type(None))) for one in dtypes):
        _refuse(int(np.sum(np.asarray(value.isna()))), "a column")
    result: np.ndarray = value.to_numpy()
    if result.dtype == object and result.ndim == 2 and result.shape[1]:  # pandas' own dtypes, or a mixture
        result = np.stack([value.iloc[:, place].to_numpy() for place in range(result.shape[1])], axis=1)
    return result


def refuse_lazy(value: Any) -> np.ndarray:
    raise TypeError("a Dask data frame, or a column of one: give its .to_dask_array(lengths=True)")


def from_polars(value: Any) -> np.ndarray:
    """A series, or a frame whose columns share one dtype."""
    _refuse(sum(map(_nulls, value.get_columns() if hasattr(value, "columns") else [value])), "a column")
    try:
        result: np.ndarray = value.to_numpy()
    except Exception as error:  # raised by Polars for a dtype that NumPy does not have
        raise TypeError(str(error)) from None
    return result


def _nulls(column: Any) -> int:
    """The nulls of a column, including those inside its rows where these are arrays."""
    count: int = column.null_count()
    while getattr(column.dtype, "inner", None) is not None:
        column = column.drop_nulls().explode()
        count += column.null_count()
    if hasattr(column.dtype, "fields"):
        count += sum(map(_nulls, column.struct.unnest().get_columns()))
    return count


def to_polars(result: np.ndarray, argument: Any) -> Any:
    """A result as a series with the same name, or a frame with the same columns."""
    if result.ndim == 1 or not hasattr(argument, "columns"):
        import polars

        return polars.Series(getattr(argument, "name", ""), result)
    return type(argument)(result, schema=argument.columns)


def from_arrow(value: Any) -> np.ndarray:
    """An array or a chunked array, which is copied if it has several chunks."""
    value = _decoded(value)
    _refuse(value.null_count, "an Arrow array")
    result: np.ndarray = value.to_numpy() if hasattr(value, "chunks") else value.to_numpy(zero_copy_only=False)
    return result


def _decoded(value: Any) -> Any:
    """An array without dictionary or run-length encoding: entries of a dictionary may themselves be null."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_run_end_encoded(value.type):
        value = pyarrow.compute.run_end_decode(value)
    return value.cast(value.type.value_type) if pyarrow.types.is_dictionary(value.type) else value


def to_arrow(result: np.ndarray, argument: Any) -> Any:
    import pyarrow

    made = pyarrow.array(result)
    return pyarrow.chunked_array([made]) if hasattr(argument, "chunks") else made
