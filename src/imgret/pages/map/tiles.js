// Small images: parts of the sheets that the page contains.
"use strict";

let sheets = [];

function loadSheets() {
  sheets = data.tiles.sheets.map((encoded) => {
    const image = new Image();
    image.addEventListener("load", redraw);
    image.src = `data:image/jpeg;base64,${encoded}`;
    return image;
  });
}

// Number of each item's tile; items without one are absent.
const tileOf = new Map();
data.tiles.sizes.forEach(([width], tile) => {
  if (width) tileOf.set(data.pictured ? data.pictured[tile] : tile, tile);
});

// Sheet and box of an item's tile; null while it is not decoded, or if there is none.
function tileBox(i) {
  const tile = tileOf.get(i);
  if (tile === undefined) return null;
  const {side, columns, sizes} = data.tiles;
  const sheet = sheets[Math.floor(tile / columns ** 2)];
  if (!sheet.complete || !sheet.naturalWidth) return null;
  const cell = tile % columns ** 2;
  const [width, height] = sizes[tile];
  return {sheet, x: cell % columns * side, y: Math.floor(cell / columns) * side, width, height};
}

// The best image of an item that the page contains, as a URL; "" if there is none.
function imageOf(i) {
  const tile = tileOf.get(i);
  const preview = tile === undefined ? null : data.tiles.previews[tile];
  if (preview) return `data:image/jpeg;base64,${preview}`;
  const box = tileBox(i);
  if (!box) return "";
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [box.width, box.height];
  copy.getContext("2d").drawImage(
    box.sheet, box.x, box.y, box.width, box.height, 0, 0, box.width, box.height);
  return copy.toDataURL("image/jpeg", 0.9);
}
