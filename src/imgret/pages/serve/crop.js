// A box that is drawn over an image and adjusted by mouse, finger or keyboard.

import {icon, make} from "./dom.js";

const LEAST = 8;  // pixels of the image a side
const SIDES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/**
 * A crop editor over an image.
 *
 * Boxes are [x0, y0, x1, y1] in pixels of the image as it is shown, after EXIF orientation;
 * `size` is its width and height, which differ from those of a preview.
 */
export class Crop {
  constructor(picture, {size, box = null, onchange}) {
    this.size = size;
    this.box = box;
    this.onchange = onchange;
    this.frame = this.makeFrame();
    this.stage = make("div", {class: "crop"}, picture, this.frame);
    this.stage.addEventListener("pointerdown", (event) => this.press(event));
    this.draw();
  }

  makeFrame() {
    const handles = SIDES.map((side) => make("i", {"data-side": side}));
    return make("div", {
      class: "crop-box",
      tabindex: "0",
      role: "group",
      "aria-roledescription": "crop box",
      onkeydown: (event) => this.key(event),
    }, ...handles);
  }

  /** Show a box, without searching. */
  set(box, size = this.size) {
    this.size = size;
    this.box = box;
    this.draw();
  }

  /** Start with a box in the middle, for those who do not draw. */
  begin() {
    if (!this.box) {
      const [w, h] = this.size;
      this.box = [w / 4, h / 4, (3 * w) / 4, (3 * h) / 4].map(Math.round);
      this.change();
    }
    this.frame.focus();
  }

  change() {
    this.draw();
    this.onchange(this.box && [...this.box]);
  }

  draw() {
    this.frame.hidden = !this.box;
    if (!this.box) return;
    const [w, h] = this.size;
    const [x0, y0, x1, y1] = this.box;
    const style = this.frame.style;
    style.left = `${(100 * x0) / w}%`;
    style.top = `${(100 * y0) / h}%`;
    style.width = `${(100 * (x1 - x0)) / w}%`;
    style.height = `${(100 * (y1 - y0)) / h}%`;
    this.frame.setAttribute("aria-label", `${x1 - x0} by ${y1 - y0} pixels at ${x0}, ${y0}. Arrow `
      + "keys move it, Shift and an arrow key resize it, Delete removes it.");
  }

  /** Return the place of an event in pixels of the image. */
  place(event) {
    const around = this.stage.getBoundingClientRect();
    const x = ((event.clientX - around.left) / around.width) * this.size[0];
    const y = ((event.clientY - around.top) / around.height) * this.size[1];
    return [x, y];
  }

  press(event) {
    if (event.button !== 0) return;
    const side = event.target.dataset?.side ?? "";
    const within = this.frame.contains(event.target);
    // A finger that starts beside the box scrolls the page.
    if (event.pointerType === "touch" && !within) return;
    event.preventDefault();
    const start = {at: this.place(event), box: this.box && [...this.box], side, within};
    const move = (moved) => this.drag(start, this.place(moved));
    const end = (ended) => {
      this.stage.removeEventListener("pointermove", move);
      this.stage.removeEventListener("pointerup", end);
      this.stage.removeEventListener("pointercancel", end);
      this.release(start, ended.type === "pointerup");
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
    if (within) this.frame.focus();
  }

  drag(start, [x, y]) {
    const [fromX, fromY] = start.at;
    if (start.side) this.box = stretched(start.box, start.side, x, y);
    else if (start.within) this.box = moved(start.box, x - fromX, y - fromY, this.size);
    else this.box = sorted([fromX, fromY, x, y]);
    this.box = inside(this.box, this.size);
    this.draw();
  }

  release(start, done) {
    const small = !this.box
      || this.box[2] - this.box[0] < LEAST || this.box[3] - this.box[1] < LEAST;
    if (!done || small) {
      this.box = start.box;  // a click, or a gesture that the browser took over
      this.draw();
    } else if (String(this.box) !== String(start.box)) {
      this.change();
      this.frame.focus({preventScroll: true});
    }
  }

  key(event) {
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.box = null;
      return this.change();
    }
    const [x, y] = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    }[event.key] ?? [0, 0];
    if (!x && !y) return undefined;
    event.preventDefault();
    event.stopPropagation();
    const step = Math.max(1, Math.round(Math.max(...this.size) / 50));
    const [x0, y0, x1, y1] = this.box;
    this.box = event.shiftKey
      ? inside([x0, y0, Math.max(x0 + LEAST, x1 + x * step), Math.max(y0 + LEAST, y1 + y * step)],
        this.size)
      : moved(this.box, x * step, y * step, this.size);
    return this.change();
  }
}

/** Move a box, which stops at the border of the image. */
function moved([x0, y0, x1, y1], x, y, [w, h]) {
  const right = Math.round(Math.min(Math.max(x, -x0), w - x1));
  const down = Math.round(Math.min(Math.max(y, -y0), h - y1));
  return [x0 + right, y0 + down, x1 + right, y1 + down];
}

/** Move one side or corner of a box; a side that passes the other one takes its part. */
function stretched([x0, y0, x1, y1], side, x, y) {
  if (side.includes("w")) x0 = x;
  if (side.includes("e")) x1 = x;
  if (side.includes("n")) y0 = y;
  if (side.includes("s")) y1 = y;
  return sorted([x0, y0, x1, y1]);
}

const sorted = ([x0, y0, x1, y1]) =>
  [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];

function inside([x0, y0, x1, y1], [w, h]) {
  const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
  return [within(x0, w), within(y0, h), within(x1, w), within(y1, h)];
}

/** Return the part of a shown picture as a file, for questions that take no box. */
export function cut(picture, box, size) {
  const [x0, y0, x1, y1] = box;
  const scale = picture.naturalWidth / size[0];  // a preview is smaller than its image
  const canvas = make("canvas", {
    width: Math.max(1, Math.round((x1 - x0) * scale)),
    height: Math.max(1, Math.round((y1 - y0) * scale)),
  });
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale,
    0, 0, canvas.width, canvas.height);
  return new Promise((done) => { canvas.toBlob(done, "image/png"); });
}

/** Make the button that starts a crop. */
export const cropButton = (start) =>
  make("button", {type: "button", class: "plain", onclick: start}, icon("crop"), "Crop");
