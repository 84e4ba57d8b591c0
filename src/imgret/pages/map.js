// A map of a gallery: a scatter plot with zoom, drag, tooltips and a legend.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.querySelector("canvas");
const tip = document.getElementById("tip");
const pen = canvas.getContext("2d");
const n = data.keys.length;
const radius = n > 5000 ? 2 : n > 500 ? 3 : 5;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const levels = () => dark.matches ? [60, 72, 52] : [45, 60, 35];
const color = (label) => label < 0 ? "#8e8e93"
  : `hsl(${(label * 137.508 + 210) % 360} 65% ${levels()[label % 3]}%)`;
const shown = (label) => only === null || only === label;
let only = null;      // the only label that is shown; null: all
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
      pen.fillStyle = seen ? color(data.label[i]) : "#8e8e93";
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fill();
    }
  }
  if (pointed >= 0) {
    const [x, y] = place(pointed);
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = getComputedStyle(document.body).color;
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
dark.addEventListener("change", () => {
  for (const [label, item] of [...list.children].entries()) {
    item.querySelector("i").style.background = color(label);
  }
  draw();
});

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
