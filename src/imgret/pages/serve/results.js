// What the list of images shows: the answer to a query, or all items.

import {call} from "./api.js";
import {announce, counted, find} from "./dom.js";
import {parameters} from "./query.js";

/** Show the answer to a query, and return its first page; null if a newer list took its place. */
export async function showResults(query, {hits, heading, most}) {
  const params = parameters(query);
  const first = await hits.show(async (offset, limit, signal) => {
    const some = Math.min(limit, most - offset);
    params.set("offset", offset);
    params.set("limit", some);
    const answer = await call("search", {params, body: query.image?.blob, signal});
    const last = answer.more && offset + some >= most;
    const ending = last ? `This server shows the best ${most} hits.` : "";
    return {...answer, items: answer.hits, more: answer.more && !last, ending};
  }, {marking: true});
  if (!first) return null;
  const title = titleOf(query);
  heading(title, described(first));
  announce(first.no_match || `${title}: ${counted(first.hits.length, "image")} shown`);
  return first;
}

function described({hits: some, no_match: reason, seconds}) {
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

/** Show the items that match a filter, in the order they were added; return the first page. */
export async function showItems(where, {hits, heading}) {
  const filtered = Object.keys(where).length > 0;
  const first = await hits.show(async (offset, limit, signal) => {
    const params = new URLSearchParams({offset, limit});
    if (filtered) params.set("where", JSON.stringify(where));
    const answer = await call("items", {params, signal});
    return {...answer, more: offset + answer.items.length < answer.total};
  }, {marking: true});
  if (!first) return null;
  const note = first.total ? counted(first.total, "image") : nothing(filtered);
  heading(filtered ? "Filtered images" : "All images", note);
  announce(note);
  return first;
}

function nothing(filtered) {
  if (filtered) return "No image matches the filters.";
  return find("indexing").hidden
    ? "The gallery is empty." : "The first images will appear here soon.";
}
