// The name of the query's class, with the confidence.

import {Latest, call} from "./api.js";
import {fill, find, make, percent} from "./dom.js";

const latest = new Latest();

/** Ask what is shown; `source` is {key} or {body}, or null for a query that has no class. */
export async function showName(source) {
  const place = find("name");
  place.hidden = true;
  const signal = latest.next();
  if (source === null) return;
  const params = new URLSearchParams(source.key ? {key: source.key} : {});
  const found = await call("classify", {params, body: source.body, signal}).catch(() => null);
  if (!found || signal.aborted) return;  // few labels, or an image that the search complains about
  fill(place, ...described(found));
  place.hidden = false;
}

function described({label, confidence, threshold, votes}) {
  if (label !== null) {
    return ["Looks like ", make("b", {}, label), ` · ${sure(confidence)}`];
  }
  const [best] = Object.entries(votes).sort((one, other) => other[1] - one[1]);
  if (!best) return ["No label fits"];
  return ["Perhaps ", make("b", {}, best[0]),
    ` · ${sure(confidence)}, and a name needs ${percent(threshold)}`];
}

/** Nothing is certain, so that no confidence is rounded to all or nothing. */
function sure(confidence) {
  const shown = confidence > 0.99 ? "over 99%" : confidence < 0.01 ? "below 1%" : percent(confidence);
  return `${shown} confident`;
}
