// Drawing: points, small images where there is room for them, selection and lasso.
"use strict";

const pen = canvas.getContext("2d");
const radius = n > 20000 ? 1.5 : n > 5000 ? 2 : n > 500 ? 3 : 5;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const GRAY = "#8e8e93";
const SMALLEST = 28, LARGEST = 96;  // side of an image on the canvas, in pixels
let lassoPath = [];
let pictures = [];                  // what was drawn last, for the mouse: {i, x, y, width, height}
let waiting = false;

function color(label) {
  if (label < 0) return GRAY;
  const levels = dark.matches ? [60, 72, 52] : [45, 60, 35];
  return `hsl(${(label * 137.508 + 210) % 360} 65% ${levels[label % 3]}%)`;
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

function draw() {
  waiting = false;
  const dots = window.devicePixelRatio || 1;
  frame = measure();
  [canvas.width, canvas.height] = [frame.width * dots, frame.height * dots];
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  const places = data.keys.map((_, i) => place(i));
  const visible = places.map((_, i) => i).filter((i) => inside(places[i]));
  drawHalos(visible.filter((i) => state.selected.has(i)).map((i) => places[i]));
  drawPoints(visible, places);
  drawPictures(visible.filter((i) => active[i]), places);
  drawMarks(visible, places);
  drawLasso();
}

// All points of a colour at once, which is much faster than each alone.
function drawPoints(visible, places) {
  const groups = new Map();
  for (const i of visible) {
    const group = active[i] ? data.label[i] : "faded";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(places[i]);
  }
  drawGroup(groups.get("faded") ?? [], GRAY, 0.15);
  groups.delete("faded");
  for (const [label, points] of groups) drawGroup(points, color(label), 0.8);
  pen.globalAlpha = 1;
}

// Below the points, so that a crowd of selected ones keeps its colours and has one outline.
function drawHalos(points) {
  const style = getComputedStyle(document.body);
  drawGroup(points, style.getPropertyValue("--query"), 1, radius + 2);
  drawGroup(points, style.getPropertyValue("--page"), 1);
}

function drawGroup(points, fill, alpha, size = radius) {
  pen.fillStyle = fill;
  pen.globalAlpha = alpha;
  pen.beginPath();
  for (const [x, y] of points) {
    if (radius <= 2) {
      pen.rect(x - size, y - size, 2 * size, 2 * size);
    } else {
      pen.moveTo(x + size, y);
      pen.arc(x, y, size, 0, 2 * Math.PI);
    }
  }
  pen.fill();
}

function dot([x, y], size) {
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
}

// Side of the images in view; 0 where they would be too small.
function pictureSide(visible, places) {
  if (!state.images || !tileOf.size || !visible.length) return 0;
  const room = Math.sqrt(0.7 * frame.width * frame.height / visible.length);
  if (room < SMALLEST) return 0;
  return Math.max(SMALLEST, Math.min(room, LARGEST, 1.5 * spacing(visible, places)));
}

// Median distance to the nearest item, of a sample.
function spacing(visible, places) {
  const sample = visible.filter((_, at) => at % Math.ceil(visible.length / 100) === 0);
  const nearest = sample.map((i) => visible.reduce((least, j) => i === j ? least
    : Math.min(least, Math.hypot(places[i][0] - places[j][0], places[i][1] - places[j][1])),
    Infinity));
  return nearest.sort((a, b) => a - b)[nearest.length >> 1];
}

// Of images that would cover each other, draw the first; those in use lie on top.
function drawPictures(visible, places) {
  pictures = [];
  const side = pictureSide(visible, places);
  if (!side) return;
  const taken = new Map();
  const free = visible.filter((i) => tileOf.has(i) && isFree(taken, places[i], side));
  if (8 * free.length < visible.length) return;  // a crowd of points says more than one image
  const used = [state.pointed, state.current].filter((i) => i >= 0 && active[i]);
  for (const i of [...free.filter((i) => !used.includes(i)), ...used]) {
    const box = tileBox(i);
    if (box) drawPicture(i, box, places[i], side);
  }
}

// Whether no image is nearer than 0.8 sides; if so, take the place.
function isFree(taken, [x, y], side) {
  const away = 0.8 * side, column = Math.floor(x / away), row = Math.floor(y / away);
  for (let down = row - 1; down <= row + 1; down++) {
    for (let across = column - 1; across <= column + 1; across++) {
      const other = taken.get(`${across} ${down}`);
      if (other && Math.abs(other[0] - x) < away && Math.abs(other[1] - y) < away) return false;
    }
  }
  taken.set(`${column} ${row}`, [x, y]);
  return true;
}

function drawPicture(i, box, [x, y], side) {
  const scale = side / data.tiles.side;
  const width = box.width * scale, height = box.height * scale;
  const left = x - width / 2, top = y - height / 2;
  pen.drawImage(box.sheet, box.x, box.y, box.width, box.height, left, top, width, height);
  pen.strokeStyle = color(data.label[i]);
  pen.lineWidth = 2;
  pen.strokeRect(left, top, width, height);
  pictures.push({i, x: left, y: top, width, height});
}

// Frames of images that are selected, rings around what is pointed at and chosen.
function drawMarks(visible, places) {
  const style = getComputedStyle(document.body);
  const boxes = new Map(pictures.map((picture) => [picture.i, picture]));
  pen.strokeStyle = style.getPropertyValue("--query");
  for (const {i} of pictures) if (state.selected.has(i)) mark(places[i], boxes.get(i));
  pen.strokeStyle = style.color;
  for (const i of [state.pointed, state.current]) if (i >= 0) mark(places[i], boxes.get(i), 2);
}

function mark(at, box, gap = 0) {
  pen.lineWidth = box ? 3 : 2;
  if (box) {
    pen.strokeRect(box.x - 2 - gap, box.y - 2 - gap, box.width + 4 + 2 * gap, box.height + 4 + 2 * gap);
  } else {
    dot(at, radius + gap);
    pen.stroke();
  }
}

function drawLasso() {
  if (lassoPath.length < 2) return;
  pen.beginPath();
  lassoPath.forEach(([x, y]) => pen.lineTo(x, y));
  pen.closePath();
  pen.fillStyle = pen.strokeStyle = getComputedStyle(document.body).getPropertyValue("--query");
  pen.globalAlpha = 0.12;
  pen.fill();
  pen.globalAlpha = 1;
  pen.lineWidth = 1.5;
  pen.stroke();
}

// The item at a point of the canvas; -1 if there is none.
function itemAt(x, y) {
  const hit = pictures.findLast((box) =>  // of the last frame, before a search perhaps
    active[box.i] && x >= box.x && y >= box.y && x <= box.x + box.width && y <= box.y + box.height);
  if (hit) return hit.i;
  let best = -1, least = (radius + 8) ** 2;
  for (let i = 0; i < n; i++) {
    if (!active[i]) continue;
    const [left, top] = place(i);
    const away = (left - x) ** 2 + (top - y) ** 2;
    if (away < least) [best, least] = [i, away];
  }
  return best;
}
