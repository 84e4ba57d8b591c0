"""The one place that imports pandas and PyArrow, which are optional: the extra ``tables``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from imgret.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["arrow", "data_frame", "parquet"]


def data_frame(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    what: str,
    times: Sequence[str] = (),
    counts: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a data frame of rows.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequence
        One value per column.
    what : str
        Name of the feature, for the error.
    times : sequence of str
        Columns of nanoseconds since 1970, or None.
    counts : sequence of str
        Columns of whole numbers, or None.

    Raises
    ------
    MissingExtraError
        pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415  # optional
    except ImportError:
        raise MissingExtraError.of(what, extra="tables") from None
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object).infer_objects()
    for name in counts:
        frame[name] = frame[name].astype("Int64")
    for name in times:
        whole = frame[name].astype("Int64")  # floats would lose nanoseconds
        frame[name] = pd.to_datetime(whole, unit="ns", utc=True)
    return frame


def arrow(what: str) -> Any:
    """Return the module ``pyarrow``.

    Raises
    ------
    MissingExtraError
        PyArrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  # optional
    except ImportError:
        raise MissingExtraError.of(what, extra="tables") from None
    return pa


def parquet(what: str) -> Any:
    """Return the module ``pyarrow.parquet``; raises like `arrow`."""
    arrow(what)
    import pyarrow.parquet as pq  # noqa: PLC0415  # optional

    return pq
