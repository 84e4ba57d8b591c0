// The page: reads the address, asks the server, shows what it answers.

import * as api from "./api.js";
import {Ask} from "./ask.js";
import {Detail} from "./detail.js";
import {calm, complain, counted, fill, find, notify} from "./dom.js";
import {Facets} from "./facets.js";
import {Hits} from "./hits.js";
import {listen} from "./keys.js";
import {Marks} from "./marks.js";
import {nameQuery} from "./name.js";
import {address, asks, keep, query, read} from "./query.js";
import {showItems, showResults} from "./results.js";
import {waitForGallery} from "./start.js";
import {leaveViews, showView} from "./views.js";

let gallery = null;      // facts about the gallery
let current = query();   // the query that is shown
let answered = null;     // the first page of its answer

const hits = new Hits({search: searchWith, detail: showDetail, mark: () => marks.show()});
const facets = new Facets((where) => go({...current, where}));
const ask = new Ask({
  image: searchFile,
  words: (text, notText) => go({...current, text, notText}),
  box: searchPart,
  ready: nameShown,
  change: (parts) => go({...current, ...parts}),
});
const detail = new Detail({
  search: searchWith, part: searchPartOf, mark: (item, sign) => hits.mark(item, sign),
  marks: hits.marks, query: () => current, answered: () => answered,
  marking: () => hits.marking, items: () => hits.items, labels: () => facets.labels(),
  changed: itemChanged, removed: itemRemoved,
});

const marks = new Marks({hits, query: () => current, go, changed: () => detail.paint()});
listen({
  ask, show, visit, searchMarked: () => marks.search(),
  // A link can say everything but an image from the user's disk.
  isWhole: () => find("side").hidden || !current.image || Boolean(current.image.key),
});

// -- where to go --------------------------------------------------------------------------------

/** Search with a query, under an address of its own. */
function go(next) {
  history.pushState({image: next.image?.id}, "", address(next));
  return arrive();
}

/** Show another page: from its top, and with a place for the focus if its element is gone. */
async function arrive() {
  window.scrollTo(0, 0);
  await show();
  if (document.activeElement === document.body) find("title").focus({preventScroll: true});
}

function searchFile(file) {
  return go(query({image: keep(file, file.name || "pasted image"), where: current.where}));
}

function searchWith(item) {
  detail.close();
  return go(query({like: [item.key], where: current.where}));
}

/** Search with a part of the query image, or with all of it. */
function searchPart(box) {
  if (current.image) return go({...current, box});
  return box ? searchPartOf(current.like[0], box, ask.picture) : undefined;
}

/** Search with a part of an item's image, which `picture` shows. */
async function searchPartOf(key, box, picture) {
  detail.close();
  try {
    const image = await partOf(key);
    const scale = image.size[0] / picture.naturalWidth;
    const like = current.like.filter((each) => each !== key);
    const rest = current.like.includes(key) ? {...current, like} : {where: current.where};
    await go(query({...rest, image, box: box.map((side) => Math.round(side * scale))}));
  } catch (error) {
    complain(error);
  }
}

async function partOf(key) {
  const blob = await api.imageFile(key);
  const picture = await createImageBitmap(blob);
  return Object.assign(keep(blob, key, key), {size: [picture.width, picture.height]});
}

// -- what to show -------------------------------------------------------------------------------

/** Show what the address says. */
async function show() {
  if (!gallery) return undefined;  // an image may be dropped early: start() shows its address
  calm();
  const params = new URLSearchParams(location.search);
  const view = params.get("view") ?? "search";
  for (const link of find("nav").querySelectorAll("a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  revealCurrent();
  document.body.dataset.view = view;
  find("side").hidden = view !== "search";
  find("plane").hidden = true;
  find("chosen").hidden = find("review").hidden = true;
  fill(find("controls"));
  marks.clear();
  leaveViews();
  if (view === "search") return showSearch();
  answered = null;
  const page = {hits, heading, go: visit, gallery, changed: itemChanged, open: showDetail,
    refresh: refreshFacts};
  return showView(view, params, page).catch((error) => {
    if (error.name === "AbortError") return;
    hits.clear();
    complain(error);
  });
}

/** Scroll the list of views to the current one: a phone has no room for all. */
function revealCurrent() {
  const link = find("nav").querySelector("[aria-current]");
  const list = link?.closest("ul");
  if (list) list.scrollLeft = link.offsetLeft - list.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
}

/** Go to the address of a view. */
function visit(search) {
  history.pushState({}, "", search);
  return arrive();
}

function heading(title, note = "", ...controls) {
  find("title").textContent = title;
  find("note").textContent = note;
  fill(find("controls"), ...controls);
  document.title = `${title} · ${gallery.name}`;
}

async function showSearch() {
  current = read(location.search, history.state);
  if (current.partOf !== null) await restore(current);
  ask.render(current);
  facets.render(current.where);
  heading(...(asks(current) ? ["Searching …"] : ["Images"]));
  if (current.lost) notify("The image of this search is not part of its link. Choose it again.");
  nameShown();
  answered = null;
  try {
    if (asks(current)) answered = await search(current);
    else await showAll(current.where);
  } catch (error) {
    if (error.kind === "KeyNotFoundError") refreshFacts();  // the gallery may be another one
    heading(asks(current) ? "No results" : "Images");
    complain(ofWhat(error, current));
  }
}

async function showAll(where) {
  const shown = await showItems(where, {hits, heading});
  // The gallery has been changed or replaced since the page was opened.
  if (shown && !Object.keys(where).length && shown.total !== gallery.items) await refreshFacts();
}

/** Say which file or item an error is about. */
function ofWhat(error, {image, like}) {
  if (error.kind === "KeyNotFoundError" && like.length === 1) {
    return new Error(`This gallery has no item “${like[0]}”. It may have been removed or renamed.`);
  }
  const isOfImage = error.status === 413 || error.status === 422;
  return image && isOfImage ? new Error(`${image.name}: ${error.message}`) : error;
}

async function search(query) {
  const first = await showResults(query, {hits, heading, most: gallery.hits});
  if (first && query.image) query.image.size = first.size;
  if (first) ask.sized(first.size);
  return first;
}

/** Take the image of an item that a link names again from the gallery. */
async function restore(query) {
  try {
    query.image = await partOf(query.partOf);
    history.replaceState({image: query.image.id}, "");
  } catch (error) {
    query.box = null;
    complain(error);
  }
}

function nameShown() {
  nameQuery(current, {ask, known: gallery.labels > 1, isCurrent: (query) => query === current});
}

// -- items that change --------------------------------------------------------------------------

function showDetail(item) {
  detail.open(item);
}

async function itemChanged(item) {
  hits.update(item);
  await refreshFacts();
}

async function itemRemoved(key) {
  hits.drop(key);
  notify(`“${key}” was removed from the gallery. Its file is still there.`);
  await refreshFacts();
}

async function refreshFacts() {
  try {
    gallery = await api.call("gallery");
    facets.setFields(await api.call("fields"));
    showGallery();
  } catch (error) {
    complain(error);
  }
}

function showGallery() {
  find("home").textContent = gallery.name.replace(/\.imgret$/, "") || "imgret";
  find("size").textContent = counted(gallery.items, "image");
  ask.allow(gallery.reads_text);
}

// -- start --------------------------------------------------------------------------------------

async function start() {
  gallery = await waitForGallery({refresh: async () => {
    await refreshFacts();
    if (!asks(current) && !find("side").hidden) await show();
  }});
  const described = api.call("openapi.json").catch(() => ({}));
  const fields = api.call("fields").catch(() => []);  // takes a while in a large gallery
  showGallery();
  for (const id of ["columns", "nav", "tools"]) find(id).hidden = false;
  detail.allow({gallery, explains: false});
  await show();
  facets.setFields(await fields);
  detail.allow({gallery, explains: "/api/explain" in ((await described).paths ?? {})});
}

start().catch(complain);
