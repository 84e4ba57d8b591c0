// Hits marked as right or wrong, and the search with them.

import {announce, find, notify} from "./dom.js";
import {asks} from "./query.js";

/** The bar that tells how many images are marked. `changed()` is called when that changes. */
export class Marks {
  constructor({hits, query, go, changed}) {
    Object.assign(this, {hits, query, go, changed});
    find("marked-search").addEventListener("click", () => this.search());
    find("marked-clear").addEventListener("click", () => this.clear());
  }

  keys(sign) {
    return [...this.hits.marks].filter(([, each]) => each === sign).map(([key]) => key);
  }

  show() {
    const [right, wrong] = [this.keys(1).length, this.keys(-1).length];
    const text = [right && `${right} right`, wrong && `${wrong} wrong`].filter(Boolean).join(", ");
    find("marked").hidden = !text;
    find("marked-text").textContent = text;
    if (text) announce(`Marked: ${text}`);
    this.changed();
  }

  clear() {
    this.hits.marks.clear();
    this.hits.repaint();
    this.show();
  }

  /** Search with the query and the marks. */
  search() {
    const [right, wrong] = [this.keys(1), this.keys(-1)];
    const query = this.query();
    if (!right.length && !wrong.length) return;
    if (!right.length && !asks(query)) {
      notify("Mark an image as right as well: wrong ones alone are no query.");
      return;
    }
    this.go({
      ...query,
      like: joined(query.like, right, wrong),
      unlike: joined(query.unlike, wrong, right),
    });
  }
}

/** Join keys, without those that now have the other mark. */
const joined = (old, added, other) =>
  [...new Set([...old, ...added])].filter((key) => !other.includes(key));
