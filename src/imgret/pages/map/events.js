// Mouse, touch and keyboard.
"use strict";

const pointers = new Map();  // those that are down: where each is, and where it began
let gesture = null;          // "pan", "lasso" or "pinch"
let tapped = false;          // whether the last pointer stayed where it was
const STILL = 5;             // pixels that a click may move

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, {now: at(event), start: at(event)});
  gesture = pointers.size > 1 ? "pinch" : state.lasso || event.shiftKey ? "lasso" : "pan";
  lassoPath = gesture === "lasso" ? [at(event)] : [];
  point(-1, event);
});

canvas.addEventListener("pointermove", (event) => {
  const pointer = pointers.get(event.pointerId);
  if (!pointer) return point(itemAt(...at(event)), event);
  const before = pointer.now;
  pointer.now = at(event);
  if (gesture === "lasso") lassoPath.push(pointer.now);
  else if (gesture === "pinch") pinch(pointer, before);
  else move(pointer.now[0] - before[0], pointer.now[1] - before[1]);
  redraw();
});

canvas.addEventListener("pointerup", (event) => {
  const pointer = pointers.get(event.pointerId);
  if (pointer && pointers.size === 1) finish(pointer, event);
  release(event);
});
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("blur", () => { tip.hidden = true; });
canvas.addEventListener("pointerleave", (event) => point(-1, event));

function release(event) {
  pointers.delete(event.pointerId);
  lassoPath = [];
  gesture = pointers.size ? "pinch" : null;  // the finger that is left does nothing alone
  redraw();
}

// Zoom about the finger that rests.
function pinch(moved, before) {
  const other = [...pointers.values()].find((one) => one !== moved);
  if (!other) return;
  const distance = ([x, y]) => Math.hypot(x - other.now[0], y - other.now[1]) || 1;
  move((moved.now[0] - before[0]) / 2, (moved.now[1] - before[1]) / 2);
  zoom(distance(moved.now) / distance(before), ...other.now);
}

function finish({now, start}, event) {
  if (gesture === "pinch") return;
  tapped = Math.hypot(now[0] - start[0], now[1] - start[1]) < STILL;
  if (gesture === "lasso" && !tapped) select(enclosed(lassoPath), !event.altKey);
}

// Not before the browser's own click, which would go to the card if that were open already.
canvas.addEventListener("click", (event) => {
  if (!tapped) return;
  const i = itemAt(...at(event));
  if (i < 0) closeCard();
  else if (state.lasso || event.shiftKey) toggle(i);
  else openCard(i);
});

function point(i, event) {
  const touch = event.pointerType === "touch";
  showTip(touch ? -1 : i, event.clientX, event.clientY);
  if (i === state.pointed) return;
  state.pointed = i;
  redraw();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  zoom(Math.exp(-event.deltaY * lines / 400), ...at(event));
  point(-1, event);
  redraw();
}, {passive: false});

// Choose the nearest item that lies in a direction, rather ahead than aside.
function step([right, down]) {
  const items = actives();
  if (!items.length) return;
  const [x, y] = state.current < 0 ? [frame.width / 2, frame.height / 2]
    : place(state.current);
  let best = -1, least = Infinity;
  for (const i of items) {
    if (i === state.current) continue;
    const [left, top] = place(i);
    const ahead = (left - x) * right + (top - y) * down;
    const aside = Math.abs((left - x) * down) + Math.abs((top - y) * right);
    const away = state.current < 0 ? Math.abs(ahead) + aside : ahead + 2 * aside;
    if ((ahead > 0 || state.current < 0) && away < least) [best, least] = [i, away];
  }
  if (best >= 0) choose(best);
}

function choose(i) {
  state.current = i;
  reveal(i);
  say(`${data.keys[i]} ${labelOf(i)}`);
  showCard();
  const {left, top} = canvas.getBoundingClientRect();
  const [x, y] = place(i);
  showTip(card.hidden ? i : -1, left + x, top + y);
}

const ARROWS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};
const KEYS = {
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  "0": showAll,
  "/": () => search.focus(),
  "Enter": () => {
    if (state.current < 0) return;
    openCard(state.current);
    find("close").focus();
  },
  " ": () => state.current >= 0 && toggle(state.current),
  "Escape": closeCard,
};

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) move(-60 * arrow[0], -60 * arrow[1]);
  else if (arrow) step(arrow);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
  redraw();
});

function setMode(lasso) {
  state.lasso = lasso;
  find("move").setAttribute("aria-pressed", String(!lasso));
  find("lasso").setAttribute("aria-pressed", String(lasso));
  canvas.classList.toggle("lasso", lasso);
}

find("move").addEventListener("click", () => setMode(false));
find("lasso").addEventListener("click", () => setMode(true));
find("images").addEventListener("click", () => {
  state.images = !state.images;
  find("images").setAttribute("aria-pressed", String(state.images));
  redraw();
});
for (const [id, change] of [["closer", () => zoom(1.5)], ["farther", () => zoom(1 / 1.5)], ["all", showAll]]) {
  find(id).addEventListener("click", () => {
    change();
    redraw();
  });
}
find("images").hidden = !tileOf.size;
new ResizeObserver(redraw).observe(canvas);
loadSheets();
showSelection();
