"""Storage of benchmark results: JSON, a Markdown table and a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgret.version import __version__


def machine() -> dict[str, Any]:
    """Return what a figure depends on beside the code."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "imgret": __version__,
        "faiss": version("faiss-cpu"),
        "numpy": version("numpy"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table in Markdown; the columns are those of the first row."""
    names = list(rows[0])
    body = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[n]) for line in [names, *body]) for n in range(len(names))]
    lines = [names, ["-" * width for width in widths], *body]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def save(
    out: Path | None,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    plots: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print the table, and write ``name``.json, .md and the plots where a folder is given."""
    text = "\n".join([f"## {title}", "", table(rows), "", *notes])
    print(text, flush=True)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "machine": machine(), "rows": list(rows), "notes": list(notes)}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for plot_name, svg in (plots or {}).items():
        (out / f"{plot_name}.svg").write_text(svg, encoding="utf-8")
        text += f"\n\n![{plot_name}]({plot_name}.svg)"
    (out / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
