// The card that enlarges an image, and the tip beside the mouse.
"use strict";

const card = find("card");
const tip = find("tip");

function openCard(i) {
  state.current = i;
  card.hidden = false;
  tip.hidden = true;
  showCard();
  redraw();
}

function closeCard() {
  if (card.contains(document.activeElement)) canvas.focus();
  card.hidden = true;
}

function showCard() {
  const i = state.current;
  if (card.hidden || i < 0) return;
  showImage(card.querySelector("img"), i);
  card.querySelector("b").textContent = labelOf(i);
  card.querySelector(".key").textContent = data.keys[i];
  find("pick").textContent = state.selected.has(i) ? "Deselect" : "Select";
  const link = card.querySelector("a"), file = fileOf(i);
  link.hidden = file === null;
  if (file !== null) link.href = file;
}

// Show what the page contains, then the file itself where the browser may and can read it.
function showImage(image, i) {
  if (image.dataset.item === String(i)) return;
  image.dataset.item = i;
  image.alt = `${labelOf(i)} ${data.keys[i]}`.trim();
  const small = imageOf(i);
  image.hidden = !small;
  if (small) image.src = small;
  const file = fileOf(i);
  // The page loads nothing from a network.
  if (!file?.startsWith("file:") || location.protocol !== "file:" || !small) return;
  const whole = new Image();
  whole.addEventListener("load", () => {
    if (image.dataset.item === String(i)) image.src = file;
  });
  whole.src = file;
}

function showTip(i, x, y) {
  tip.hidden = i < 0;
  if (i < 0) return;
  const [image, label, key] = tip.children;
  if (tip.dataset.item !== String(i)) {
    tip.dataset.item = i;
    const url = imageOf(i);
    image.hidden = !url;
    if (url) image.src = url;
    label.textContent = labelOf(i);
    key.textContent = data.keys[i];
  }
  const left = x + 16 + tip.offsetWidth > window.innerWidth;
  const above = y + 16 + tip.offsetHeight > window.innerHeight;
  tip.style.left = `${Math.max(4, left ? x - 16 - tip.offsetWidth : x + 16)}px`;
  tip.style.top = `${Math.max(4, above ? y - 16 - tip.offsetHeight : y + 16)}px`;
}

// Text for screen readers.
function say(text) {
  find("said").textContent = text;
}

find("close").addEventListener("click", closeCard);
find("pick").addEventListener("click", () => toggle(state.current));
card.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeCard();
});
