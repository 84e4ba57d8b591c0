// Small functions to build the page.

export const find = (id) => document.getElementById(id);

/**
 * Make an element. Functions become listeners, `true` an attribute without value; null, false and
 * undefined are left out. Text is always text: nothing here is parsed as HTML.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make one of the icons that index.html defines. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Show text and elements in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Read out a text by a screen reader, without moving the focus. */
export function announce(text) {
  find("status").textContent = text;
}

/** Show what went wrong until it is closed or something else is tried. */
export function complain(error) {
  if (error.name === "AbortError") return;  // a newer request took its place
  const box = find("problem");
  const text = make("p", {}, error.message);
  const close = make("button", {
    type: "button", class: "plain", "aria-label": "Close this message", onclick: calm,
  }, icon("close"));
  fill(box, text, close);
  box.hidden = false;
}

/** Take the message of `complain` away. */
export function calm() {
  find("problem").hidden = true;
}

/** Show a short message that goes away by itself. */
export function notify(text) {
  const box = find("notice");
  box.textContent = text;
  box.hidden = false;
  announce(text);
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { box.hidden = true; }, 6000);
}

const plain = new Intl.NumberFormat("en");
export const number = (value) => plain.format(value);
export const counted = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
export const percent = (share) => `${Math.round(100 * share)}%`;
/** Show a value of the metadata; digits that nobody reads are left out. */
export function shown(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") {
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(6)));
  }
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}

