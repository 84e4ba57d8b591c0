"""A map as a page in one file."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from imgret import images
from imgret.errors import ImageError
from imgret.types import Embeddings

__all__ = ["map_page"]

_MOST_POINTS = 50_000
_MOST_PICTURES = 300
_SIDE = 128

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{note}</p></header>
<main><canvas></canvas><ul></ul></main>
<div id="tip" hidden><img alt=""><b></b><span></span></div>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
_STYLE = """
*{box-sizing:border-box}
html,body{height:100%}
body{margin:0;display:flex;flex-direction:column;background:#fff;color:#1d1d1f;
  font:13px/1.4 system-ui,sans-serif}
header{padding:16px 20px 10px}
h1{font-weight:600;font-size:20px;line-height:1.3;margin:0}
p{margin:0;color:#6e6e73}
main{flex:1;min-height:0;display:flex;border-top:1px solid #e5e5ea}
canvas{flex:1;min-width:0;height:100%;cursor:crosshair;touch-action:none}
ul{width:220px;margin:0;padding:10px 0;overflow:auto;list-style:none;border-left:1px solid #e5e5ea}
ul:empty{display:none}
li button{width:100%;display:flex;gap:8px;align-items:center;padding:2px 14px;border:0;
  background:none;font:inherit;color:inherit;text-align:left;cursor:pointer}
li button:hover,li button:focus-visible{background:#f2f2f4}
li button span{flex:1;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
li button small{color:#6e6e73;font-variant-numeric:tabular-nums}
li i{width:10px;height:10px;border-radius:5px;flex:none}
li.off{opacity:.35}
#tip{position:fixed;max-width:260px;padding:6px 10px;border-radius:8px;background:#1d1d1f;
  color:#fff;pointer-events:none;overflow-wrap:anywhere}
#tip img{display:block;max-width:128px;max-height:128px;margin:2px 0 6px;border-radius:4px}
#tip b{display:block;font-weight:600}
#tip [hidden],#tip[hidden]{display:none}
"""
_SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.querySelector("canvas");
const tip = document.getElementById("tip");
const pen = canvas.getContext("2d");
const n = data.keys.length;
const radius = n > 5000 ? 2 : n > 500 ? 3 : 5;
const color = (label) => label < 0 ? "#aeaeb2"
  : `hsl(${(label * 137.508 + 210) % 360} 65% ${[45, 60, 35][label % 3]}%)`;
const shown = (label) => only === null || only === label;
let only = null;      // the one label that is shown; null: all
let pointed = -1;     // the point under the mouse
let view = {scale: 1, x: 0, y: 0};

function place(i) {
  const side = Math.min(canvas.clientWidth, canvas.clientHeight) - 48;
  const left = (canvas.clientWidth - side) / 2, top = (canvas.clientHeight - side) / 2;
  return [
    (left + data.x[i] * side) * view.scale + view.x,
    (top + (1 - data.y[i]) * side) * view.scale + view.y,
  ];
}

function draw() {
  const dots = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * dots;
  canvas.height = canvas.clientHeight * dots;
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  for (const seen of [false, true]) {
    pen.globalAlpha = seen ? 0.75 : 0.12;
    for (let i = 0; i < n; i++) {
      if (shown(data.label[i]) !== seen) continue;
      const [x, y] = place(i);
      pen.fillStyle = seen ? color(data.label[i]) : "#aeaeb2";
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fill();
    }
  }
  if (pointed >= 0) {
    const [x, y] = place(pointed);
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = "#1d1d1f";
    pen.beginPath();
    pen.arc(x, y, radius + 3, 0, 7);
    pen.stroke();
  }
}

function point(event) {
  const box = canvas.getBoundingClientRect();
  const mouse = [event.clientX - box.left, event.clientY - box.top];
  let best = -1, least = (radius + 8) ** 2;
  for (let i = 0; i < n; i++) {
    if (!shown(data.label[i])) continue;
    const [x, y] = place(i);
    const away = (x - mouse[0]) ** 2 + (y - mouse[1]) ** 2;
    if (away < least) [best, least] = [i, away];
  }
  if (best !== pointed) {
    pointed = best;
    draw();
  }
  tip.hidden = best < 0;
  if (best < 0) return;
  const picture = data.pictures[best] || "";
  const [image, label, key] = tip.children;
  image.hidden = !picture;
  if (picture) image.src = "data:image/jpeg;base64," + picture;
  label.textContent = data.label[best] < 0 ? "" : data.labels[data.label[best]];
  key.textContent = data.keys[best];
  const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
  const low = event.clientY + 16 + tip.offsetHeight > window.innerHeight;
  tip.style.left = event.clientX + (right ? -16 - tip.offsetWidth : 16) + "px";
  tip.style.top = event.clientY + (low ? -16 - tip.offsetHeight : 16) + "px";
}

let held = null;
canvas.addEventListener("pointerdown", (event) => {
  held = [event.clientX - view.x, event.clientY - view.y];
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointerup", () => { held = null; });
canvas.addEventListener("pointercancel", () => { held = null; });
canvas.addEventListener("pointermove", (event) => {
  if (held === null) return point(event);
  tip.hidden = true;
  pointed = -1;
  view.x = event.clientX - held[0];
  view.y = event.clientY - held[1];
  draw();
});
canvas.addEventListener("pointerleave", () => {
  tip.hidden = true;
  pointed = -1;
  draw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  const before = view.scale;
  view.scale = Math.min(200, Math.max(0.5, before * Math.exp(-event.deltaY / 400)));
  const grown = view.scale / before;
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  view.x = x - (x - view.x) * grown;
  view.y = y - (y - view.y) * grown;
  draw();
}, {passive: false});
canvas.addEventListener("dblclick", () => {
  view = {scale: 1, x: 0, y: 0};
  draw();
});
window.addEventListener("resize", draw);

const list = document.querySelector("ul");
data.labels.forEach((name, label) => {
  const [item, button, dot, text, count] =
    ["li", "button", "i", "span", "small"].map((tag) => document.createElement(tag));
  dot.style.background = color(label);
  text.textContent = button.title = name;
  count.textContent = data.counts[label];
  button.append(dot, text, count);
  button.addEventListener("click", () => {
    only = only === label ? null : label;
    [...list.children].forEach((one, i) => one.classList.toggle("off", !shown(i)));
    draw();
  });
  item.append(button);
  list.append(item);
});
draw();
"""


def map_page(
    title: str,
    keys: Sequence[str],
    coordinates: Embeddings,
    labels: Sequence[str | None],
    paths: Sequence[str | None],
    *,
    method: str,
) -> str:
    """Return the page of a map.

    Parameters
    ----------
    title : str
    keys, labels, paths : sequences of length n
    coordinates : float32 array of shape (n, 2)
    method : str
        For the note.
    """
    n = len(keys)
    drawn = np.arange(n)
    note = f"{method.upper()}. Scroll to zoom, drag to move, double-click to go back."
    if n > _MOST_POINTS:
        drawn = np.sort(np.random.default_rng(0).choice(n, _MOST_POINTS, replace=False))
        note += f" Drawn: {_MOST_POINTS} of {n} items, by lot."
    counts = Counter(label for label in labels if label is not None)
    names = [name for name, _ in counts.most_common()]
    codes = {name: code for code, name in enumerate(names)} | {None: -1}
    low = coordinates.min(axis=0)
    span = coordinates.max(axis=0) - low
    scale = max(float(span.max()), 1e-30)
    # The longer side is 1; the shorter one lies in the middle.
    unit = ((coordinates[drawn] - low - span / 2) / scale + 0.5).astype(np.float64).round(5)
    places = drawn.tolist()
    data = {
        "x": unit[:, 0].tolist(),
        "y": unit[:, 1].tolist(),
        "keys": [keys[place] for place in places],
        "label": [codes[labels[place]] for place in places],
        "labels": names,
        "counts": [counts[name] for name in names],
        "pictures": [_picture(path) for path in paths] if n <= _MOST_PICTURES else [],
    }
    return _PAGE.format(
        title=html.escape(title),
        note=html.escape(note),
        style=_STYLE,
        # Inside a script element nothing but "<" can end it.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        script=_SCRIPT,
    )


def _picture(path: str | None) -> str | None:
    """Return a small JPEG in base64; None where there is no picture to be had."""
    if path is None:
        return None
    try:
        image = images.thumbnail(images.load(path, min_side=_SIDE), _SIDE)
    except ImageError:
        return None
    return base64.b64encode(images.encode(image, "jpeg", quality=80)).decode()
