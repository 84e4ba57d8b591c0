"""The base class of results: output as text, JSON, a page, a file and in a notebook."""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar, final, overload

from imgret.errors import InvalidInputError
from imgret.pages.document import document, fragment
from imgret.support.tables import data_frame
from imgret.types import Json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "ResultList", "Tabular"]

T = TypeVar("T")


class Result(ABC):
    """Result of a method of `imgret.Retriever` or of a training run.

    ``print`` shows it as text, a notebook as HTML.
    """

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> Json:
        """Return everything as JSON values."""

    @final
    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained HTML page.

        Parameters
        ----------
        title : str, optional
            Title of the page; by default the name of the class.
        """
        return document(title or type(self).__name__, self._body())

    @final
    def save(self, path: str | Path) -> None:
        """Write the result to a file, as a page or as JSON.

        Parameters
        ----------
        path : path
            File to write; its name ends in ``.html`` or ``.json``.

        Raises
        ------
        InvalidInputError
            The name ends in something else.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".html" | ".htm":
                text = self.to_html()
            case ".json":
                text = self.to_json() + "\n"
            case suffix:
                raise InvalidInputError(
                    f"path: expected a file name that ends in .html or .json, found {suffix!r} in "
                    f"{path}"
                )
        path.write_text(text, encoding="utf-8", errors="replace")

    def _repr_html_(self) -> str:
        return fragment(self._body())

    def _body(self) -> str:
        """Return what the page and the notebook show, as HTML; by default the text."""
        return f"<pre>{html.escape(str(self))}</pre>"


class Tabular(Result):
    """Result that is a table as well."""

    __slots__ = ()

    @abstractmethod
    def _frame(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Return the names of the columns, and rows with a value for each."""

    @final
    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame; :doc:`/how-to/data-in-and-out` lists the columns of each result.

        Raises
        ------
        MissingExtraError
            pandas is not installed: it comes with ``pip install 'imgret[tables]'``.
        """
        columns, rows = self._frame()
        return data_frame(columns, rows, what=f"{type(self).__name__}.to_pandas")


class ResultList(Tabular, list[T]):
    """List of results that a notebook shows together; a part of it shows itself as well."""

    __slots__ = ()

    @abstractmethod
    def _like(self, entries: list[T]) -> Self:
        """Return a list of some of the entries that shows itself like this one."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return self._like(found) if isinstance(index, slice) else found
