// The filters: the fields that items have, with their values and counts.

import {fill, find, icon, make, number, shown} from "./dom.js";

const FEW = 8;       // values shown at first
const SEARCHED = 15;  // more values than these can be searched by name

const range = (condition) => condition !== null && typeof condition === "object"
  && Object.keys(condition).every((name) => name === "$gte" || name === "$lte");

/** Return the values of a condition, if it is a list of values. */
function values(condition) {
  if (condition === undefined) return [];
  if (condition === null || typeof condition !== "object") return [condition];
  return Array.isArray(condition.$in) && Object.keys(condition).length === 1 ? condition.$in : [];
}

/** The filters. `onchange(where)` gets the new filter. */
export class Facets {
  constructor(onchange) {
    this.onchange = onchange;
    this.fields = [];
    this.where = {};
    this.open = new Set();  // fields of which all values are shown
    find("fields").addEventListener("submit", (event) => event.preventDefault());
    const wide = window.matchMedia("(min-width: 801px)");
    const fold = () => { find("filters").open = wide.matches; };
    wide.addEventListener("change", fold);
    fold();
  }

  /** Take the fields of the gallery. */
  setFields(fields) {
    this.fields = fields;
    find("filters").hidden = !fields.length;
    this.draw();
  }

  /** Return the labels that occur, the most frequent first. */
  labels() {
    const field = this.fields.find((each) => each.field === "label");
    return field ? field.values.map(({value}) => value) : [];
  }

  /** Show the filter of a query. */
  render(where) {
    const same = JSON.stringify(where) === JSON.stringify(this.where);
    this.where = where;
    this.renderChosen();
    if (!same) this.draw();
  }

  draw() {
    const focused = document.activeElement?.id;
    fill(find("fields"), ...this.fields.map((field) => this.field(field)));
    if (focused) find(focused)?.focus();  // the box that was ticked
  }

  field(facet) {
    const measured = facet.least !== null && (facet.distinct > SEARCHED || !facet.values.length);
    if (!measured && !facet.values.length) return null;  // nearly every item has its own text
    const body = measured ? this.rangeOf(facet) : this.listOf(facet);
    return make("fieldset", {}, make("legend", {}, facet.field), ...body);
  }

  listOf(facet) {
    const chosen = values(this.where[facet.field]);
    const all = this.open.has(facet.field) || facet.values.length <= FEW + 2;
    const rows = facet.values.map(({value, items}, n) =>
      this.row(facet.field, value, items, chosen.includes(value), !all && n >= FEW, n));
    // A value that is chosen stays in sight.
    rows.filter((row) => row.querySelector(":checked")).forEach((row) => { row.hidden = false; });
    const list = make("ul", {}, ...rows);
    const search = all && rows.length > SEARCHED ? this.searchOf(facet, rows) : null;
    const more = all ? null : make("button", {
      type: "button", class: "plain", onclick: () => {
        this.open.add(facet.field);
        this.draw();
      },
    }, `All ${number(facet.values.length)}`);
    const rest = all && facet.distinct > facet.values.length
      ? make("p", {class: "faint"}, `The ${rows.length} most frequent of ${number(facet.distinct)}`)
      : null;
    return [search, list, more, rest];
  }

  row(field, value, items, checked, hidden, n) {
    const id = `value-${this.fields.findIndex((each) => each.field === field)}-${n}`;
    const box = make("input", {
      type: "checkbox", id, checked,
      onchange: ({target}) => this.choose(field, value, target.checked),
    });
    return make("li", {hidden}, make("label", {for: id}, box,
      make("span", {}, shown(value)), make("small", {}, number(items))));
  }

  searchOf(facet, rows) {
    return make("input", {
      type: "search", placeholder: "Find", "aria-label": `Find a value of ${facet.field}`,
      oninput: ({target}) => {
        const wanted = target.value.trim().toLowerCase();
        rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
      },
    });
  }

  rangeOf(facet) {
    const condition = this.where[facet.field];
    const now = range(condition) ? condition : {};
    const end = (name, operator, hint) => make("input", {
      type: "number", step: "any", placeholder: shown(hint), value: now[operator] ?? null,
      "aria-label": `${name} ${facet.field}`,
      onchange: ({target}) => this.limit(facet.field, operator, target.value),
    });
    return [make("div", {class: "range"}, end("Least", "$gte", facet.least), "to",
      end("Most", "$lte", facet.most))];
  }

  choose(field, value, yes) {
    const rest = values(this.where[field]).filter((each) => each !== value);
    const now = yes ? [...rest, value] : rest;
    this.change(field, now.length ? {$in: now} : undefined);
  }

  limit(field, operator, text) {
    const now = range(this.where[field]) ? {...this.where[field]} : {};
    if (text === "" || Number.isNaN(Number(text))) delete now[operator];
    else now[operator] = Number(text);
    this.change(field, Object.keys(now).length ? now : undefined);
  }

  change(field, condition) {
    const where = {...this.where};
    if (condition === undefined) delete where[field];
    else where[field] = condition;
    this.onchange(where);
  }

  // -- the filters in use ----------------------------------------------------------------------

  renderChosen() {
    const list = find("chosen");
    fill(list, ...Object.entries(this.where).flatMap(([field, condition]) =>
      this.chips(field, condition)));
    list.hidden = !list.children.length;
  }

  chips(field, condition) {
    const several = values(condition);
    if (several.length) {
      return several.map((value) =>
        chip(`${field}: ${shown(value)}`, () => this.choose(field, value, false)));
    }
    const text = range(condition)
      ? `${field}: ${condition.$gte ?? "…"} to ${condition.$lte ?? "…"}`
      : `${field}: ${JSON.stringify(condition)}`;  // from a link that was written by hand
    return [chip(text, () => this.change(field, undefined))];
  }
}

const chip = (text, remove) => make("li", {}, make("button", {
  type: "button", "aria-label": `Remove the filter ${text}`, onclick: remove,
}, text, icon("close")));
