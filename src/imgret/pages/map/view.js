// Where the items lie on the canvas: zoom and position of the map.
"use strict";

const canvas = document.querySelector("canvas");
const ZOOM = {least: 0.5, most: 400};
const MARGIN = 32;
let view = {scale: 1, x: 0, y: 0};
let frame = measure();

// The square in which the whole map fits; asking the browser for sizes is slow.
function measure() {
  const {clientWidth: width, clientHeight: height} = canvas;
  const side = Math.min(width, height) - 2 * MARGIN;
  return {width, height, side, left: (width - side) / 2, top: (height - side) / 2};
}

function place(i) {
  return [
    (frame.left + data.x[i] * frame.side) * view.scale + view.x,
    (frame.top + (1 - data.y[i]) * frame.side) * view.scale + view.y,
  ];
}

const inside = ([x, y]) => x >= 0 && y >= 0 && x <= frame.width && y <= frame.height;
const inView = () => actives().filter((i) => inside(place(i)));

function zoom(factor, x = frame.width / 2, y = frame.height / 2) {
  const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, view.scale * factor));
  const grown = scale / view.scale;
  view = {scale, x: x - (x - view.x) * grown, y: y - (y - view.y) * grown};
}

function move(x, y) {
  view.x += x;
  view.y += y;
}

function showAll() {
  view = {scale: 1, x: 0, y: 0};
}

// Zoom so that the items fill the canvas.
function fit(items) {
  if (!items.length) return;
  showAll();
  const places = items.map(place);
  const [left, right] = extent(places.map(([x]) => x));
  const [top, bottom] = extent(places.map(([, y]) => y));
  const {width, height} = frame;
  const factor = Math.min(width / (right - left + 1), height / (bottom - top + 1), 40) * 0.8;
  move(width / 2 - (left + right) / 2, height / 2 - (top + bottom) / 2);
  zoom(Math.max(1, factor));
}

function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity]);
}

// Move the map just so far that an item is in view, and not below the card.
function reveal(i) {
  const [x, y] = place(i);
  const {width, height} = frame;
  const beside = width > 2 * card.offsetWidth ? card.offsetWidth : 0;
  const into = (at, size) => at < MARGIN ? MARGIN - at : at > size - MARGIN ? size - MARGIN - at : 0;
  move(into(x, width - beside), into(y, height));
}
