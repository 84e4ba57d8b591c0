// The list of images: cards, marks, moving by keyboard, and more of them while scrolling.

import {Latest, facts, thumbnail} from "./api.js";
import {announce, complain, fill, find, icon, make} from "./dom.js";

const PAGE = 60;

/**
 * The list of images.
 *
 * `on` has the functions `search(item)`, `detail(item)` and `mark()`; marks are kept in `marks`,
 * by key: 1 for an image that is right, -1 for one that is wrong.
 */
export class Hits {
  constructor(on) {
    this.on = on;
    this.list = find("hits");
    this.more = find("more");
    this.end = find("end");
    this.items = [];
    this.marks = new Map();
    this.latest = new Latest();
    this.more.addEventListener("click", () => this.next({focus: true}));
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("focusin", (event) => this.hold(event.target.closest("li")));
    this.seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.next();
    }, {rootMargin: "800px"});
    this.seen.observe(this.more);
  }

  /**
   * Show the images that `load(offset, limit, signal)` returns: {items, more, ending}.
   *
   * Returns the first answer; null where a newer list took its place.
   */
  async show(load, {marking = false} = {}) {
    Object.assign(this, {load, marking, items: [], loading: false});
    this.signal = this.latest.next();
    this.list.setAttribute("aria-busy", "true");
    this.more.hidden = true;
    this.end.textContent = "";
    try {
      const first = await this.load(0, PAGE, this.signal);
      this.list.replaceChildren();
      this.list.hidden = first.items.length === 0;
      this.list.style.setProperty("--ratio", this.ratio = usualRatio(first.items));
      this.add(first);
      this.hold(this.list.firstElementChild);
      return first;
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.clear();
      throw error;
    } finally {
      this.list.removeAttribute("aria-busy");
    }
  }

  /** Take the list away, and end what still loads. */
  clear() {
    this.latest.abort();
    this.marking = false;
    this.items = [];
    this.list.replaceChildren();
    this.list.hidden = this.more.hidden = true;
    this.end.textContent = "";
  }

  async next({focus = false} = {}) {
    if (this.loading || this.more.hidden) return;
    const signal = this.signal;
    this.loading = true;
    this.more.setAttribute("aria-disabled", "true");
    try {
      const offset = this.items.length;
      const answer = await this.load(offset, PAGE, signal);
      if (signal.aborted) return;
      this.add(answer);
      announce(`${this.items.length} images shown`);
      if (focus) this.shots()[offset]?.focus();
    } catch (error) {
      complain(error);
    } finally {
      if (signal === this.signal) this.loading = false;
      this.more.removeAttribute("aria-disabled");
    }
  }

  add({items, more, ending = ""}) {
    this.items.push(...items);
    this.list.append(...items.map((item) => this.card(item)));
    this.more.hidden = !more;
    this.end.textContent = ending;
    this.seen.unobserve(this.more);  // tells again where the button is, also if it did not move
    this.seen.observe(this.more);
  }

  /** Take an image from the list after it was removed. */
  drop(key) {
    this.items = this.items.filter((item) => item.key !== key);
    const card = this.cards().find((each) => each.item?.key === key);
    if (card?.tabbed) this.hold(card.nextElementSibling ?? card.previousElementSibling);
    card?.remove();
  }

  /** Show a changed item in its card. */
  update(item) {
    const card = this.cards().find((each) => each.item?.key === item.key);
    if (!card) return;
    const fresh = this.card(Object.assign(card.item, item));
    card.replaceWith(fresh);
    if (card.tabbed) this.hold(fresh);
  }

  cards() {
    return [...this.list.children];
  }

  shots() {
    return [...this.list.querySelectorAll(".shot")];
  }

  // -- cards ---------------------------------------------------------------------------------

  card(item) {
    const shot = make("a", {
      class: "shot", href: `?like=${encodeURIComponent(item.key)}`, title: item.key, tabindex: "-1",
      onclick: (event) => this.open(event, item),
    }, this.picture(item));
    const card = make("li", {class: "card"}, shot, this.tools(item), caption(item));
    card.item = item;
    this.paint(card);
    return card;
  }

  picture(item) {
    const frame = make("span", {class: "photo"});
    if (!item.image) return missing(frame, item, "No image, only a vector");
    const shown = make("img", {
      src: thumbnail(item.key), alt: name(item), width: "256", height: "256", loading: "lazy",
      decoding: "async",
      onload: () => outline(frame, shown, item, this.ratio),
      onerror: () => missing(frame, item, "The image file cannot be read"),
    });
    frame.append(shown);
    return frame;
  }

  open(event, item) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;  // a new tab or window
    event.preventDefault();
    this.on.search(item);
  }

  tools(item) {
    const button = (name, label, onclick, mark = null) => make("button", {
      type: "button", tabindex: "-1", title: label, "aria-label": `${label}: ${item.key}`,
      "aria-pressed": mark === null ? null : "false", "data-mark": mark, onclick,
    }, icon(name));
    return make("div", {class: "card-tools"},
      this.marking ? button("plus", "More like this", () => this.mark(item, 1), 1) : null,
      this.marking ? button("minus", "Less like this", () => this.mark(item, -1), -1) : null,
      button("more", "Details", () => this.on.detail(item)));
  }

  /** Mark an image as right or wrong; the same mark again takes it away. */
  mark(item, sign) {
    if (!this.marking) return;
    if (this.marks.get(item.key) === sign) this.marks.delete(item.key);
    else this.marks.set(item.key, sign);
    this.repaint();
    this.on.mark();
  }

  repaint() {
    this.cards().filter((card) => card.item).forEach((card) => this.paint(card));
  }

  paint(card) {
    const sign = this.marks.get(card.item.key) ?? 0;
    card.classList.toggle("right", sign > 0);
    card.classList.toggle("wrong", sign < 0);
    for (const button of card.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.mark) === sign));
    }
  }

  // -- keyboard ------------------------------------------------------------------------------

  /** Let Tab stop at one card only: thousands of stops would be a trap. */
  hold(card) {
    if (!card || card === this.held) return;
    if (this.held) tabbable(this.held, false);
    tabbable(card, true);
    this.held = card;
  }

  key(event) {
    const card = event.target.closest("li");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!this.act(card, event) && !this.move(card, event.key)) return;
    event.preventDefault();
  }

  act({item}, {key, target}) {
    if (!item) return false;  // a cluster
    if (key === "+" || key === "=") this.mark(item, 1);
    else if (key === "-") this.mark(item, -1);
    else if (key === " " && target.matches(".shot")) this.on.detail(item);
    else return false;
    return true;
  }

  move(card, key) {
    const cards = this.cards();
    const from = cards.indexOf(card);
    const across = this.columns(cards);
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across,
      Home: -from, End: cards.length - 1 - from,
    };
    if (!(key in steps)) return false;
    cards[from + steps[key]]?.querySelector(".shot").focus();
    return true;
  }

  columns(cards) {
    const next = cards.findIndex((card) => card.offsetTop > cards[0].offsetTop);
    return next < 0 ? cards.length : next;
  }
}

function tabbable(card, yes) {
  card.tabbed = yes;
  for (const each of card.querySelectorAll("a, button")) each.tabIndex = yes ? 0 : -1;
}

const name = (item) => (item.label ? `${item.label}: ${item.key}` : item.key);

function missing(frame, item, reason) {
  frame.classList.add("missing");
  fill(frame, make("span", {}, reason), make("span", {class: "key"}, item.key));
  return frame;
}

/** Draw the part of the image that was indexed, unless it is the whole image. */
async function outline(frame, shown, item, ratio) {
  if (!item.box) return;
  const [x0, y0, x1, y1] = item.box;
  const small = [shown.naturalWidth, shown.naturalHeight];
  // Only a cropped image is worth a question for its size.
  if (!x0 && !y0 && Math.abs(x1 * small[1] - y1 * small[0]) <= Math.max(x1, y1)) return;
  const {size} = await facts(item.key).catch(() => ({size: null}));
  if (size) frame.append(region(item.box, size, ratio));
}

/** Make the outline of a box in a frame in which an image of this size is centred. */
function region([x0, y0, x1, y1], [w, h], ratio) {
  const box = make("span", {class: "region"});
  const [wide, high] = [Math.max(w, h * ratio), Math.max(h, w / ratio)];
  box.style.left = `${(100 * (x0 + (wide - w) / 2)) / wide}%`;
  box.style.top = `${(100 * (y0 + (high - h) / 2)) / high}%`;
  box.style.width = `${(100 * (x1 - x0)) / wide}%`;
  box.style.height = `${(100 * (y1 - y0)) / high}%`;
  return box;
}

/** Return the ratio of width to height that suits most images, so that frames have few margins. */
function usualRatio(items) {
  const whole = items.filter(({box}) => box && !box[0] && !box[1]);
  if (whole.length <= items.length / 2) return 1;
  const ratios = whole.map(({box}) => box[2] / box[3]).sort((one, other) => one - other);
  return Math.min(1.5, Math.max(0.75, ratios[ratios.length >> 1]));
}

function caption(item) {
  const {action} = item;
  const score = typeof item.score === "number"
    ? make("span", {class: "score", title: "Score"}, item.score.toFixed(3)) : null;
  return make("div", {class: "caption"},
    make("div", {class: "line"},
      make("span", {class: item.label ? "label" : "label faint"}, item.label ?? item.key), score),
    item.remark ? make("div", {class: "remark"}, item.remark) : null,
    action
      ? make("button", {type: "button", tabindex: "-1", onclick: action.run}, action.label) : null);
}
