// The page: reads the address, asks the server, shows what it answers.

import * as api from "./api.js";
import {Ask} from "./ask.js";
import {cut} from "./crop.js";
import {Detail} from "./detail.js";
import {announce, calm, complain, counted, fill, find, isTyping, notify} from "./dom.js";
import {Facets} from "./facets.js";
import {Hits} from "./hits.js";
import {showName} from "./name.js";
import {address, asks, keep, parameters, query, read} from "./query.js";
import {waitForGallery} from "./start.js";
import {showView} from "./views.js";

let gallery = null;      // facts about the gallery
let current = query();   // the query that is shown
let answered = null;     // the first page of its answer

const hits = new Hits({search: searchWith, detail: showDetail, mark: showMarks});
const facets = new Facets((where) => go({...current, where}));
const ask = new Ask({
  image: (file) => go(query({image: keep(file, file.name || "the pasted image"), where: current.where})),
  words: (text, notText) => go({...current, text, notText}),
  box: searchPart,
  ready: () => nameQuery(current),
  change: (parts) => go({...current, ...parts}),
});
const detail = new Detail({
  search: searchWith, part: searchPartOf, mark: (item, sign) => hits.mark(item, sign),
  marks: hits.marks, query: () => current, answered: () => answered,
  marking: () => hits.marking, items: () => hits.items, labels: () => facets.labels(), changed: itemChanged, removed: itemRemoved,
});

// -- where to go ---------------------------------------------------------------------------------

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

// -- what to show --------------------------------------------------------------------------------

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
  document.body.dataset.view = view;
  find("side").hidden = view !== "search";
  find("plane").hidden = true;
  find("chosen").hidden = true;
  fill(find("controls"));
  hits.marks.clear();
  showMarks();
  if (view === "search") return showSearch();
  answered = null;
  return showView(view, params, {hits, heading, go: visit, gallery, changed: itemChanged, open: showDetail})
    .catch((error) => {
      hits.clear();
      complain(error);
    });
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
  nameQuery(current);
  answered = null;
  try {
    answered = asks(current) ? await search(current) : await browse(current.where);
  } catch (error) {
    heading(asks(current) ? "No results" : "Images");
    complain(error);
  }
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

async function search(query) {
  const params = parameters(query);
  const first = await hits.show(async (offset, limit, signal) => {
    const most = Math.min(limit, gallery.hits - offset);
    params.set("offset", offset);
    params.set("limit", most);
    const answer = await api.call("search", {params, body: query.image?.blob, signal});
    const last = answer.more && offset + most >= gallery.hits;
    const ending = last ? `This server shows the best ${gallery.hits} hits.` : "";
    return {...answer, items: answer.hits, more: answer.more && !last, ending};
  }, {marking: true});
  if (!first) return null;
  if (query.image) query.image.size = first.size;
  ask.sized(first.size);
  heading(titleOf(query), found(first));
  announce(first.no_match || `${titleOf(query)}: ${counted(first.hits.length, "image")} shown`);
  return first;
}

function found({hits: some, no_match: reason, seconds}) {
  return some.length ? `best first · ${Math.max(1, Math.round(1000 * seconds))} ms` : reason;
}

function titleOf({image, text, notText, like, box}) {
  const named = image ? image.name : like[0];
  const parts = [];
  if (text) parts.push(`“${text}”`);
  if (named) parts.push(box ? `part of ${named}` : named);
  const title = named ? `Like ${parts.join(" and ")}` : parts[0];
  const others = image ? like.length : like.length - 1;
  return title + (others > 0 ? ` and ${others} more` : "") + (notText ? `, not “${notText}”` : "");
}

async function browse(where) {
  const filtered = Object.keys(where).length > 0;
  const first = await hits.show(async (offset, limit, signal) => {
    const params = new URLSearchParams({offset, limit});
    if (filtered) params.set("where", JSON.stringify(where));
    const answer = await api.call("items", {params, signal});
    return {...answer, more: offset + answer.items.length < answer.total};
  }, {marking: true});
  if (!first) return null;
  const note = first.total ? counted(first.total, "image")
    : filtered ? "No image matches the filters."
      : find("indexing").hidden ? "The gallery is empty." : "The first images will appear here soon.";
  heading(filtered ? "Filtered images" : "All images", note);
  announce(note);
  return null;
}

/** Name the class of the image, of the part of it, or of the item, if that is the whole query. */
async function nameQuery(query) {
  showName(null);
  const {image, like, box} = query;
  const alone = !query.text && !query.unlike.length && like.length + (image ? 1 : 0) === 1;
  if (!alone || gallery.labels < 2) return undefined;
  if (image && !box) return showName({body: image.blob});
  if (!ask.picture) return undefined;  // asked again once it is shown; an item may have none
  if (!image) return showName({key: like[0]});
  const body = await cut(ask.picture, box, ask.crop.size);
  return body && current === query ? showName({body}) : undefined;
}


// -- marks ---------------------------------------------------------------------------------------

function showMarks() {
  const signs = [...hits.marks.values()];
  const right = signs.filter((sign) => sign > 0).length;
  const parts = [right && `${right} right`, signs.length - right && `${signs.length - right} wrong`];
  find("marked").hidden = !signs.length;
  find("marked-text").textContent = parts.filter(Boolean).join(", ");
  if (signs.length) announce(`Marked: ${find("marked-text").textContent}`);
  detail.paint();
}

function searchMarked() {
  const keys = (sign) => [...hits.marks].filter(([, each]) => each === sign).map(([key]) => key);
  const [right, wrong] = [keys(1), keys(-1)];
  const union = (old, added, without) =>
    [...new Set([...old, ...added])].filter((key) => !without.includes(key));
  if (!right.length && !asks(current)) {
    if (wrong.length) notify("Mark an image as right as well: wrong ones alone are no query.");
    return;
  }
  if (!right.length && !wrong.length) return;
  go({
    ...current,
    like: union(current.like, right, wrong),
    unlike: union(current.unlike, wrong, right),
  });
}

find("marked-search").addEventListener("click", searchMarked);
find("marked-clear").addEventListener("click", () => {
  hits.marks.clear();
  hits.repaint();
  showMarks();
});

// -- items that change -----------------------------------------------------------------------------

function showDetail(item) {
  detail.open(item);
}

async function itemChanged(item) {
  hits.update(item);
  await refreshFacts();
}

async function itemRemoved(key) {
  hits.drop(key);
  notify(`${key} was removed from the gallery. Its file is still there.`);
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

// -- links and keys --------------------------------------------------------------------------------

find("copy").addEventListener("click", async () => {
  const note = current.image && !current.image.key && !find("side").hidden
    ? "The link does not contain your image, which stays on this computer." : "";
  try {
    await navigator.clipboard.writeText(location.href);
    notify(`Link copied. ${note}`.trim());
  } catch {  // only pages with TLS, or on this computer, may write to the clipboard
    find("link-text").value = location.href;
    find("link-note").textContent = note;
    find("link").showModal();
    find("link-text").select();
  }
});

find("skip").addEventListener("click", (event) => {
  event.preventDefault();  // an address with a fragment would be another entry of the history
  find("results").focus();
});

find("help").addEventListener("click", () => find("shortcuts").showModal());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "/") ask.focus();
  else if (event.key === "?") find("shortcuts").showModal();
  else if (event.key === "s" || event.key === "S") searchMarked();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("#nav a, #home");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  visit(link.getAttribute("href"));
});

window.addEventListener("popstate", show);

// -- start -----------------------------------------------------------------------------------------

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
