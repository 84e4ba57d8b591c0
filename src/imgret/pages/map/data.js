// The items of the map, and what is searched for, shown and selected.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const n = data.keys.length;

const state = {
  only: null,           // the only label that is shown; null: all
  words: [],            // what a key or a label must contain
  selected: new Set(),
  pointed: -1,          // the item under the mouse
  current: -1,          // the item that the keyboard or a click has chosen
  images: true,
  lasso: false,         // whether dragging selects
};

const find = (id) => document.getElementById(id);
const labelOf = (i) => data.label[i] < 0 ? "" : data.labels[data.label[i]];
const fileOf = (i) => data.files[i] === null ? null : data.folder + data.files[i];

let texts = null;

function contains(i, words) {
  texts ??= data.keys.map((key, item) => `${key} ${labelOf(item)}`.toLowerCase());
  return words.every((word) => texts[i].includes(word));
}

// Whether each item is shown in colour: of the chosen label, and found by the search.
const active = new Uint8Array(n).fill(1);

function refresh() {
  for (let i = 0; i < n; i++) {
    active[i] = (state.only === null || state.only === data.label[i]) && contains(i, state.words);
  }
}

const actives = () => data.keys.map((_, i) => i).filter((i) => active[i]);
