// The map: images as points, with zoom, drag, a legend, and the keyboard.

import {thumbnail} from "./api.js";
import {announce, fill, make, number} from "./dom.js";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const GREY = "#8e8e93";
const LEGEND = 200;  // labels listed

let current = null;  // the map that is shown
dark.addEventListener("change", () => current?.recolor());
const resized = new ResizeObserver(() => current?.resize());

/** Draw a map into an element; `open(key)` is called for a point that is chosen. */
export function drawMap(place, data, open) {
  current = new Plane(data, open);
  fill(place, current.canvas, current.legend, current.tip);
  resized.disconnect();
  resized.observe(current.canvas);  // draws it as well
}

class Plane {
  constructor(data, open) {
    this.data = data;
    this.open = open;
    [this.points, this.wide, this.high] = centred(data.x, data.y);
    [this.codes, this.labels] = coded(data.labels);
    this.radius = data.keys.length > 5000 ? 2 : data.keys.length > 500 ? 3.5 : 5;
    this.only = null;
    this.pointed = -1;
    this.view = {scale: 1, x: 0, y: 0};
    this.held = new Map();  // the pointers that are down, and where
    this.canvas = make("canvas", {
      tabindex: "0", role: "application",
      "aria-label": "Map of the images. Arrow keys move from image to image, Enter shows one.",
    });
    this.tip = make("div", {class: "tip", hidden: true});
    this.legend = make("ul", {"aria-label": "Labels"},
      ...this.labels.slice(0, LEGEND).map((label, code) => this.entry(label, code)));
    this.listen();
  }

  entry({name, count}, code) {
    const dot = make("i");
    dot.style.background = color(code);
    return make("li", {}, make("button", {
      type: "button", "aria-pressed": "false", onclick: () => this.choose(code), title: name,
    }, dot, make("span", {}, name), make("small", {}, number(count))));
  }

  /** Show only one label, or all of them again. */
  choose(code) {
    this.only = this.only === code ? null : code;
    [...this.legend.children].forEach((entry, each) => {
      entry.firstElementChild.setAttribute("aria-pressed", String(this.only === each));
      entry.classList.toggle("off", !this.isShown(each));
    });
    this.draw();
  }

  isShown(code) {
    return this.only === null || this.only === code;
  }

  recolor() {
    [...this.legend.children].forEach((entry, code) => {
      entry.querySelector("i").style.background = color(code);
    });
    this.draw();
  }

  // -- drawing ---------------------------------------------------------------------------------

  resize() {
    const dots = window.devicePixelRatio || 1;
    const {clientWidth: w, clientHeight: h} = this.canvas;
    if (!w || !h) return;
    this.canvas.width = w * dots;
    this.canvas.height = h * dots;
    this.dots = dots;
    this.draw();
  }

  at(i) {
    const {clientWidth: w, clientHeight: h} = this.canvas;
    const side = Math.min((w - 40) / (this.wide || 1), (h - 40) / (this.high || 1));
    const {scale, x, y} = this.view;
    return [
      (w / 2 + this.points[i][0] * side) * scale + x,
      (h / 2 + this.points[i][1] * side) * scale + y,
    ];
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    pen.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    for (const seen of [false, true]) {  // what is shown lies above what is faded
      pen.globalAlpha = seen ? 0.8 : 0.15;
      this.points.forEach((_, i) => {
        if (this.isShown(this.codes[i]) !== seen) return;
        pen.fillStyle = seen ? color(this.codes[i]) : GREY;
        this.dot(pen, i, this.radius);
        pen.fill();
      });
    }
    if (this.pointed < 0) return;
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    this.dot(pen, this.pointed, this.radius + 4);
    pen.stroke();
  }

  dot(pen, i, radius) {
    const [x, y] = this.at(i);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
  }

  // -- pointing --------------------------------------------------------------------------------

  point(i) {
    if (i === this.pointed) return;
    this.pointed = i;
    this.draw();
    this.tip.hidden = i < 0;
    if (i < 0) return;
    const key = this.data.keys[i];
    const label = this.data.labels[i];
    const picture = make("img", {
      src: thumbnail(key, 192), alt: "", onerror: () => picture.remove(),
    });
    fill(this.tip, picture, make("b", {}, label ?? ""), make("span", {}, key));
    const [x, y] = this.at(i);
    const right = x > this.canvas.clientWidth / 2;
    const low = y > this.canvas.clientHeight / 2;
    this.tip.style.left = `${this.canvas.offsetLeft + x + (right ? -16 : 16)}px`;
    this.tip.style.top = `${this.canvas.offsetTop + y + (low ? -16 : 16)}px`;
    this.tip.style.translate = `${right ? "-100%" : "0"} ${low ? "-100%" : "0"}`;
  }

  near([x, y], accept = () => true, most = (this.radius + 10) ** 2) {
    let best = -1;
    this.points.forEach((_, i) => {
      if (!this.isShown(this.codes[i])) return;
      const [px, py] = this.at(i);
      const away = (px - x) ** 2 + (py - y) ** 2;
      if (away < most && accept(px - x, py - y, i)) [best, most] = [i, away];
    });
    return best;
  }

  place(event) {
    const around = this.canvas.getBoundingClientRect();
    return [event.clientX - around.left, event.clientY - around.top];
  }

  listen() {
    const on = (name, listener, options) => this.canvas.addEventListener(name, listener, options);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", (event) => this.release(event));
    on("pointerleave", () => { if (!this.held.size) this.point(-1); });
    on("blur", () => this.point(-1));
    on("wheel", (event) => this.zoom(event), {passive: false});
    on("dblclick", () => {
      this.view = {scale: 1, x: 0, y: 0};
      this.draw();
    });
    on("keydown", (event) => this.key(event));
  }

  /** Drag with one finger or the mouse, zoom with two fingers, choose with a click. */
  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.held.set(event.pointerId, this.place(event));
    if (this.held.size === 1) this.from = this.place(event);
    else this.from = null;  // two fingers choose nothing
  }

  move(event) {
    if (!this.held.has(event.pointerId)) return this.point(this.near(this.place(event)));
    const before = this.grip();
    const now = this.place(event);
    if (this.from && apart(now, this.from) <= 4) return undefined;  // still a click
    this.from = null;
    this.held.set(event.pointerId, now);
    const after = this.grip();
    this.view.x += after.x - before.x;
    this.view.y += after.y - before.y;
    this.point(-1);
    return this.zoomAt([after.x, after.y], before.wide ? after.wide / before.wide : 1);
  }

  /** Return the middle of the fingers, and how far they are apart. */
  grip() {
    const [[x0, y0], [x1, y1] = [x0, y0]] = [...this.held.values()];
    return {x: (x0 + x1) / 2, y: (y0 + y1) / 2, wide: apart([x0, y0], [x1, y1])};
  }

  release(event) {
    if (!this.held.delete(event.pointerId) || !this.from) return;
    const i = this.near(this.from);
    if (i >= 0 && event.type === "pointerup") this.open(this.data.keys[i]);
  }

  zoom(event) {
    event.preventDefault();
    this.zoomAt(this.place(event), Math.exp(-event.deltaY / 400));
  }

  zoomAt([x, y], by) {
    const {view} = this;
    const before = view.scale;
    view.scale = Math.min(200, Math.max(0.5, before * by));
    const grown = view.scale / before;
    view.x = x - (x - view.x) * grown;
    view.y = y - (y - view.y) * grown;
    this.draw();
  }

  key(event) {
    const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const toward = {
      ArrowLeft: (x, y) => -x > Math.abs(y), ArrowRight: (x, y) => x > Math.abs(y),
      ArrowUp: (x, y) => -y > Math.abs(x), ArrowDown: (x, y) => y > Math.abs(x),
    }[event.key];
    if (toward) this.step(toward, middle);
    else if (event.key === "Enter" && this.pointed >= 0) this.open(this.data.keys[this.pointed]);
    else if (event.key === "+" || event.key === "=") this.zoomAt(middle, 1.5);
    else if (event.key === "-") this.zoomAt(middle, 1 / 1.5);
    else return;
    event.preventDefault();
  }

  /** Go to the nearest point in a direction. */
  step(toward, middle) {
    const next = this.pointed < 0 ? this.near(middle, () => true, Infinity)
      : this.near(this.at(this.pointed), (x, y, i) => i !== this.pointed && toward(x, y), Infinity);
    if (next < 0) return;
    this.point(next);
    announce([this.data.labels[next], this.data.keys[next]].filter(Boolean).join(": "));
  }
}

const apart = ([x0, y0], [x1, y1]) => Math.hypot(x1 - x0, y1 - y0);

/** Move coordinates to the middle, and scale both by the same number: the shape stays. */
function centred(xs, ys) {
  const range = (values) => {
    let [least, most] = [Infinity, -Infinity];
    for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
    return [(least + most) / 2, most - least];
  };
  const [[x, wide], [y, high]] = [range(xs), range(ys)];
  const side = Math.max(wide, high) || 1;
  return [xs.map((each, i) => [(each - x) / side, (y - ys[i]) / side]), wide / side, high / side];
}

/** Number the labels by frequency; -1 is an item without a label. */
function coded(labels) {
  const counts = new Map();
  for (const name of labels) if (name !== null) counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort((one, other) => other[1] - one[1])
    .map(([name, count]) => ({name, count}));
  const codes = new Map(sorted.map(({name}, code) => [name, code]));
  return [labels.map((name) => codes.get(name) ?? -1), sorted];
}

/** Return the colour of a label; neighbours in the legend differ in hue and lightness. */
function color(code) {
  if (code < 0) return GREY;
  const levels = dark.matches ? [60, 72, 52] : [45, 60, 35];
  return `hsl(${(code * 137.508 + 210) % 360} 65% ${levels[code % 3]}%)`;
}
