// The panel with one image: its facts, what can be done with it, and why it was found.

import * as api from "./api.js";
import {Crop, cropButton} from "./crop.js";
import {announce, complain, fill, find, icon, make, notify, percent, shown} from "./dom.js";
import {explain} from "./explain.js";

/**
 * The panel with one image.
 *
 * `on` has the functions `search(item)`, `part(key, box, picture)`, `mark(item, sign)`,
 * `changed(item)`, `removed(key)`, and those that return what is shown: `items()`, `query()`,
 * `answered()`, `marking()`, `labels()`; `marks` is the map of marks.
 */
export class Detail {
  constructor(on) {
    this.on = on;
    this.dialog = find("detail");
    this.latest = new api.Latest();
    this.dialog.addEventListener("close", () => this.latest.abort());
    this.dialog.addEventListener("pointerdown", (event) => {
      if (event.target === this.dialog) this.close();  // the backdrop
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  allow({gallery, explains}) {
    this.writable = gallery.writable;
    this.explains = explains;
  }

  open(item) {
    this.item = item;
    this.render();
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  key(event) {
    if (event.target.matches("input")) return;
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (step) this.step(step);
    else if (event.key === "+" || event.key === "=") this.mark(1);
    else if (event.key === "-") this.mark(-1);
    else return;
    event.preventDefault();
  }

  neighbor(step) {
    const items = this.on.items();
    const at = items.findIndex((each) => each.key === this.item.key);
    return at < 0 ? undefined : items[at + step];
  }

  step(by) {
    const next = this.neighbor(by);
    if (!next) return;
    this.open(next);
    announce(next.label ? `${next.label}: ${next.key}` : next.key);
    this.dialog.querySelector(by > 0 ? "[data-step='1']" : "[data-step='-1']")?.focus();
  }

  render() {
    const {item} = this;
    const signal = this.latest.next();
    this.stage = make("div", {class: "stage"});
    this.facts = make("dl", {class: "facts"});
    this.why = make("div", {class: "why", "aria-live": "polite"});
    fill(this.dialog, this.head(), make("div", {class: "detail-body"}, this.stage,
      make("div", {class: "detail-side"}, this.actions(), this.facts, this.writing())), this.why);
    this.renderFacts(null);
    this.renderImage();
    this.paint();
    api.facts(item.key, signal)
      .then((facts) => this.renderFacts(facts))
      .catch(complain);
  }

  head() {
    const move = (step, name, label) => make("button", {
      type: "button", class: "plain", "aria-label": label, "data-step": step,
      disabled: !this.neighbor(step), onclick: () => this.step(step),
    }, icon(name));
    return make("div", {class: "detail-head"},
      make("h2", {id: "detail-title"}, this.item.label ?? this.item.key),
      move(-1, "left", "Previous image"), move(1, "right", "Next image"),
      make("button", {
        type: "button", class: "plain", "aria-label": "Close", onclick: () => this.close(),
      }, icon("close")));
  }

  // -- the image -----------------------------------------------------------------------------

  renderImage() {
    const {item} = this;
    if (!item.image) {
      return fill(this.stage, make("p", {class: "nothing"}, "This item has no image."));
    }
    const nothing = () => fill(this.stage,
      make("p", {class: "nothing"}, "The image file cannot be read. Was it moved or removed?"));
    const picture = make("img", {
      src: api.image(item.key), alt: item.label ? `${item.label}: ${item.key}` : item.key,
      onload: () => this.addCrop(picture), onerror: nothing,
    });
    return fill(this.stage, picture);
  }

  addCrop(picture) {
    if (!picture.isConnected) return;  // another image is shown by now
    const {item} = this;
    const size = [picture.naturalWidth, picture.naturalHeight];
    const search = make("button", {
      type: "button", class: "primary", hidden: true,
      onclick: () => this.on.part(item.key, this.crop.box, picture),
    }, "Search with this part");
    const hint = make("span", {class: "faint draw-hint"}, "Draw a box to search with a part.");
    this.crop = new Crop(picture, {size, onchange: (box) => {
      search.hidden = !box;
      hint.hidden = Boolean(box);
    }});
    fill(this.stage, this.crop.stage, make("div", {class: "line"}, hint,
      cropButton(() => this.crop.begin()), search));
  }

  // -- facts and actions -----------------------------------------------------------------------

  renderFacts(facts) {
    const {item} = this;
    const size = facts?.size;
    const whole = item.box && size && String(item.box) === String([0, 0, ...size]);
    const hasScore = typeof item.score === "number";
    const rows = [
      ["Key", item.key],
      ["Label", item.label ?? "none"],
      ["Score", hasScore ? scored(item) : null],
      ["Same class", item.probability == null ? null : `${percent(item.probability)} likely`],
      ["Size", size ? `${size[0]} × ${size[1]}` : null],
      ["Indexed part", item.box && size && !whole ? item.box.join(", ") : null],
      ...flat(facts?.metadata ?? item.metadata ?? {}),
    ];
    fill(this.facts, ...rows.filter(([, value]) => value !== null).map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, shown(value)))));
  }

  actions() {
    const {item} = this;
    const mark = (sign, name, text) => make("button", {
      type: "button", "data-mark": sign, "aria-pressed": "false", onclick: () => this.mark(sign),
    }, icon(name), text);
    const marking = this.on.marking();
    return make("div", {class: "actions"},
      make("button", {
        type: "button", class: "primary", autofocus: true, onclick: () => this.on.search(item),
      }, "Search with this"),
      marking ? mark(1, "plus", "More like this") : null,
      marking ? mark(-1, "minus", "Less like this") : null,
      this.on.answered() && this.explains && item.image
        ? make("button", {
          type: "button", onclick: ({currentTarget}) => this.explainIt(currentTarget),
        }, "Why?") : null);
  }

  mark(sign) {
    if (this.on.marking()) this.on.mark(this.item, sign);
  }

  /** Show on the buttons how the image is marked. */
  paint() {
    const sign = this.item ? this.on.marks.get(this.item.key) : undefined;
    for (const button of this.dialog.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.mark) === sign));
    }
  }

  async explainIt(button) {
    button.disabled = true;
    fill(this.why, make("p", {class: "faint"}, "Comparing the images …"));
    try {
      const found = await explain(this.on.query(), this.on.answered(), this.item);
      fill(this.why, found);
      found.scrollIntoView({block: "nearest"});
    } catch (error) {
      this.fail(this.why, error);
    } finally {
      button.disabled = false;
    }
  }

  fail(place, error) {
    if (error.name === "AbortError") return;
    fill(place, make("p", {class: "wrong-text", role: "alert"}, error.message));
  }

  // -- changes ---------------------------------------------------------------------------------

  writing() {
    if (!this.writable) return null;
    const message = make("div", {"aria-live": "polite"});
    const field = make("input", {
      id: "label", list: "labels", value: this.item.label ?? "", autocomplete: "off",
    });
    const form = make("form", {
      class: "relabel",
      onsubmit: (event) => {
        event.preventDefault();
        this.relabel(field, message);
      },
    }, make("label", {for: "label"}, "New label"),
    make("div", {class: "line"}, field, make("button", {}, "Relabel")),
    make("datalist", {id: "labels"}, ...this.on.labels().map((value) => make("option", {value}))));
    return make("div", {class: "writing"}, form, message, this.removing(message));
  }

  async relabel(field, message) {
    const {item} = this;
    const label = field.value.trim() || null;
    try {
      await api.relabel(item.key, label, item.label);
      this.take({...item, label}, label ? `The label is now “${label}”.` : "The label was removed.");
    } catch (error) {
      if (error.status === 409) await this.showConflict(field.value, error, message);
      else this.fail(message, error);
    }
  }

  /** Show the label that somebody else gave meanwhile, and let the user decide again. */
  async showConflict(wanted, error, message) {
    const now = await api.facts(this.item.key).catch(() => null);
    if (!now || now.label === this.item.label) return this.fail(message, error);
    this.item = {...this.item, label: now.label};
    this.on.changed(this.item);
    this.render();
    find("label").value = wanted;
    find("label").focus();
    return fill(this.dialog.querySelector(".writing > div"), make("p", {class: "wrong-text"},
      `${now.label === null ? "The label was removed elsewhere."
        : `The label was changed elsewhere: it is now “${now.label}”.`} `
      + `Press Relabel again to ${wanted ? `make it “${wanted}”` : "remove it"}.`));
  }

  take(item, text) {
    this.item = item;
    this.on.changed(item);
    this.render();
    notify(text);
    find("label").focus();
  }

  removing(message) {
    const place = make("div", {class: "line"});
    const ask = () => {
      const sure = make("button", {type: "button", class: "danger", onclick: remove}, "Remove");
      fill(place, make("span", {}, "Remove it from the gallery? The file stays."), sure,
        make("button", {type: "button", onclick: offer}, "Keep"));
      sure.focus();
    };
    const remove = async () => {
      try {
        await api.remove(this.item.key);
        const next = this.neighbor(1) ?? this.neighbor(-1);
        this.on.removed(this.item.key);
        if (next) this.open(next);
        else this.close();
      } catch (error) {
        offer();
        this.fail(message, error);
      }
    };
    const offer = () => fill(place, make("button", {
      type: "button", class: "plain", onclick: ask,
    }, "Remove from the gallery …"));
    offer();
    return place;
  }
}

/** Outliers have a score without a rank. */
const scored = ({score, rank}) => score.toFixed(4) + (rank ? ` (rank ${rank})` : "");

/** List nested metadata by the names that filters use: place.row. */
function flat(metadata, before = "") {
  return Object.entries(metadata).flatMap(([name, value]) =>
    (value !== null && typeof value === "object" && !Array.isArray(value)
      ? flat(value, `${before}${name}.`) : [[before + name, value]]));
}
