// The gallery as duplicates, clusters, outliers, wrong labels, and as a map.

import * as api from "./api.js";
import {announce, complain, counted, fill, find, make, notify, percent} from "./dom.js";
import {showDuplicates} from "./duplicates.js";
import {drawMap} from "./map.js";

const VIEWS = {
  duplicates: (params, page, signal) => showDuplicates(page, signal),
  clusters, outliers, mislabelled, map,
};
const latest = new api.Latest();

/** End what a view still waits for, so that it does not show up in the place of another. */
export function leaveViews() {
  latest.abort();
}

/** Show the view that an address names. */
export async function showView(view, params, page) {
  if (!Object.hasOwn(VIEWS, view)) throw new Error(`There is no view “${view}”.`);
  const signal = latest.next();
  page.hits.clear();
  const all = counted(page.gallery.items, "image");
  page.heading(TITLES[view], `Looking at ${all}, which takes a while the first time …`);
  announce(`${TITLES[view]}: working`);
  try {
    await VIEWS[view](params, page, signal);
    announce(`${find("title").textContent}: ${find("note").textContent}`);
  } catch (error) {
    if (error.name !== "AbortError") page.heading(TITLES[view]);
    throw error;
  }
}

const TITLES = {
  duplicates: "Duplicates", clusters: "Clusters", outliers: "Outliers",
  mislabelled: "Wrong labels", map: "Map",
};

/** Show items of which only the keys are known, a page at a time. */
function paged(entries) {
  return async (offset, limit, signal) => {
    const some = entries.slice(offset, offset + limit);
    const found = await api.items(some.map((entry) => entry.key), signal);
    const facts = new Map(found.map((item) => [item.key, item]));
    const left = some.filter(({key}) => facts.has(key));  // others were removed meanwhile
    return {
      items: left.map((entry) => ({...facts.get(entry.key), ...entry})),
      more: offset + limit < entries.length,
    };
  };
}

// -- clusters -----------------------------------------------------------------------------------

const COUNTS = [6, 12, 24, 48];
const SAMPLE = 13;

async function clusters(params, page, signal) {
  const n = Number(params.get("n")) || 12;
  const found = await api.call("curate/clusters", {params: new URLSearchParams({n}), signal});
  const members = found.sizes.map(() => []);
  for (const [key, cluster] of Object.entries(found.assignments)) members[cluster].push(key);
  const one = params.get("cluster");
  const chosen = one === null ? undefined : members[Number(one)];
  if (chosen) return showCluster(found, chosen, n, one, page);
  return showClusters(found, members, n, page, signal);
}

async function showCluster(found, members, n, one, page) {
  const first = found.representatives[one];
  const keys = [first, ...members.filter((key) => key !== first)];
  const back = make("a", {
    href: `?view=clusters&n=${n}`, class: "button",
    onclick: (event) => follow(event, page),
  }, "All clusters");
  page.heading(`Cluster ${Number(one) + 1}`, counted(keys.length, "image"), back);
  await page.hits.show(paged(keys.map((key) => ({key}))));
}

async function showClusters(found, members, n, page, signal) {
  const select = make("select", {
    id: "cluster-count", onchange: ({target}) => page.go(`?view=clusters&n=${target.value}`),
  }, ...[...new Set([...COUNTS, n])].sort((a, b) => a - b).map((each) =>
    make("option", {value: each, selected: each === n}, String(each))));
  page.heading("Clusters", `${counted(found.sizes.length, "group")} of similar images`,
    make("label", {for: "cluster-count"}, "Number"), select);
  const samples = members.map((keys, i) => spread(keys, SAMPLE, found.representatives[i]));
  const items = new Map((await api.items(samples.flat(), signal)).map((item) => [item.key, item]));
  const list = find("hits");
  fill(list, ...samples.map((keys, i) =>
    clusterCard(i, keys.map((key) => items.get(key)).filter(Boolean), found, n, page)));
  list.hidden = false;
}

/** Return some keys, evenly spread, with the representative first. */
function spread(keys, n, first) {
  const step = Math.max(1, keys.length / (n - 1));
  const length = Math.min(n - 1, keys.length);
  const some = Array.from({length}, (_, i) => keys[Math.floor(i * step)]);
  return [...new Set([first, ...some])];
}

function clusterCard(i, items, found, n, page) {
  const labels = frequent(items);
  const title = found.names?.[i] ?? (labels.length ? labels.join(", ") : `Cluster ${i + 1}`);
  const photos = items.filter((item) => item.image).slice(0, 4);
  return make("li", {class: "card cluster"}, make("a", {
    class: "shot", href: `?view=clusters&n=${n}&cluster=${i}`, "data-cluster": i,
    "aria-label": `Cluster ${i + 1}: ${title}, ${counted(found.sizes[i], "image")}`,
    onclick: (event) => follow(event, page),
  }, make("span", {class: "mosaic"}, ...photos.map((item) => make("img", {
    src: api.thumbnail(item.key), alt: "", width: "128", height: "128", loading: "lazy",
    decoding: "async",
  })))), make("div", {class: "caption"}, make("div", {class: "line"},
    make("span", {class: "label", title}, title),
    make("span", {class: "score"}, counted(found.sizes[i], "image")))));
}

/** Return the most frequent labels of a sample. */
function frequent(items) {
  const counts = new Map();
  for (const {label} of items) if (label !== null) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1]).slice(0, 3).map(([label]) => label);
}

function follow(event, page) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  page.go(event.currentTarget.getAttribute("href"));
}

// -- outliers and wrong labels ------------------------------------------------------------------

async function outliers(params, page, signal) {
  const found = await api.call("curate/outliers", {signal});
  page.heading("Outliers", found.length
    ? `the ${counted(found.length, "image")} least like any other; the score is the similarity to `
      + "the neighbours"
    : "There are too few images to tell.");
  await page.hits.show(paged(found));
}

async function mislabelled(params, page, signal) {
  const found = await api.call("curate/mislabelled", {signal});
  page.heading("Wrong labels", found.length
    ? `${counted(found.length, "image")} whose neighbours have another label, the surest first`
    : "No label looks wrong.");
  await page.hits.show(paged(found.map((issue) => ({
    key: issue.key,
    remark: `Looks like ${issue.suggested} (${percent(issue.confidence)})`,
    action: page.gallery.writable ? {
      label: `Relabel as ${issue.suggested}`, run: (event) => correct(issue, event, page),
    } : null,
  }))));
}

async function correct({key, label, suggested}, event, page) {
  const button = event.currentTarget;
  button.disabled = true;
  try {
    await api.relabel(key, suggested, label);
    await page.changed({key, label: suggested, remark: `Was ${label}`, action: null});
    notify(`“${key}” is now “${suggested}”.`);
  } catch (error) {
    button.disabled = false;
    complain(error);
  }
}

// -- the map ------------------------------------------------------------------------------------

async function map(params, page, signal) {
  const all = counted(page.gallery.items, "image");
  const found = await api.finished("curate/map", signal,
    (share) => page.heading("Map", `Laying out ${all} … ${share}`));
  page.heading("Map", found.note
    || `${counted(found.keys.length, "image")}; similar ones are near each other`);
  const place = find("plane");
  place.hidden = false;
  drawMap(place, found, async (key) => {
    const [item] = await api.items([key]).catch((error) => {
      complain(error);
      return [];
    });
    if (item) page.open(item);
  });
}
