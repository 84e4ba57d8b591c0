"""The result of checking a gallery for damage."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from imgret.pages.result import Tabular
from imgret.types import Json

__all__ = ["CheckReport", "Damage"]

_SHOWN = 20  # damages of one part that are shown as text


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a gallery that is not what was stored.

    Attributes
    ----------
    part : str
        ``"manifest"``, ``"catalog"``, ``"vectors"``, ``"projection"``, ``"index"`` or
        ``"thumbnails"``.
    what : str
        What is damaged.
    remedy : str
        What can be had back, and how.
    key : str or None
        Key of the item that is damaged; as it is read, where the row itself is damaged.
    item : dict or None
        What can be read of that item: path, label, metadata, and whether these are ``"sound"``.
    """

    part: str
    what: str
    remedy: str
    key: str | None = None
    item: Json | None = None


@final
@dataclass(frozen=True)
class CheckReport(Tabular):
    """What a check of a gallery has found, and what was repaired.

    Attributes
    ----------
    gallery : str
        Path of the gallery.
    items : int
        Number of items that are sound.
    damages : list of Damage
    repaired : bool
        Whether the damages were repaired; damaged items are then no longer in the gallery.
    seconds : float
        Duration.
    """

    gallery: str
    items: int
    damages: Sequence[Damage] = field(default_factory=list)
    repaired: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages

    @property
    def lost(self) -> list[Damage]:
        """Damages that concern items, which a repair removes."""
        return [damage for damage in self.damages if damage.item is not None]

    def to_dict(self) -> Json:
        """Return everything as JSON values."""
        return {
            "gallery": self.gallery,
            "ok": self.ok,
            "items": self.items,
            "repaired": self.repaired,
            "seconds": self.seconds,
            "damages": [asdict(damage) for damage in self.damages],
        }

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return (
            ("part", "key", "what", "remedy"),
            [(one.part, one.key, one.what, one.remedy) for one in self.damages],
        )

    def summary(self) -> str:
        """Return the outcome in a sentence."""
        items = f"{self.items:,} {'item is' if self.items == 1 else 'items are'} sound"
        if self.ok:
            return f"{self.gallery}: {items}, nothing is damaged"
        lost, n = len(self.lost), len(self.damages)
        if self.repaired:
            gone = f"; {lost:,} damaged {'one was' if lost == 1 else 'ones were'} removed"
            return f"{self.gallery}: repaired; {items}{gone if lost else ''}"
        found = f"{n:,} {'damage' if n == 1 else 'damages'} found"
        return f"{self.gallery}: {found}; {items}"

    def __str__(self) -> str:
        return "\n".join([*self._lines(), self.summary()])

    def _lines(self) -> list[str]:
        lines, counts = [], dict[str, int]()
        for damage in self.damages:
            counts[damage.part] = counts.get(damage.part, 0) + 1
            if counts[damage.part] <= _SHOWN:
                named = "" if damage.key is None else f"{damage.key!r}: "
                lines.append(f"{damage.part}: {named}{damage.what}; {damage.remedy}")
        lines += [
            f"{part}: {count - _SHOWN:,} more of the kind"
            for part, count in counts.items()
            if count > _SHOWN
        ]
        return lines

    def _body(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.part)}</td><td>{html.escape(one.key or '')}</td>"
            f"<td>{html.escape(one.what)}</td><td>{html.escape(one.remedy)}</td></tr>"
            for one in self.damages[: 10 * _SHOWN]
        )
        head = "<tr><th>part</th><th>item</th><th>what</th><th>what to do</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else ""
        more = len(self.damages) - 10 * _SHOWN
        end = f'<p class="faint">and {more:,} more</p>' if more > 0 else ""
        return f"<p>{html.escape(self.summary())}</p>{table}{end}"
