// The name of the query's class, with the confidence.

import {Latest, call} from "./api.js";
import {cut} from "./crop.js";
import {fill, find, make, percent} from "./dom.js";

const latest = new Latest();

/**
 * Name the class of the image, of the part of it, or of the item, if that is the whole query.
 *
 * `known` tells whether there are labels to choose from.
 */
export async function nameQuery(query, {ask, known, isCurrent}) {
  showName(null);
  const {image, like, box} = query;
  const alone = !query.text && !query.unlike.length && like.length + (image ? 1 : 0) === 1;
  if (!alone || !known) return undefined;
  if (image && !box) return showName({body: image.blob});
  if (!ask.picture) return undefined;  // asked again once it is shown; an item may have none
  if (!image) return showName({key: like[0]});
  const body = await cut(ask.picture, box, ask.crop.size);
  return body && isCurrent(query) ? showName({body}) : undefined;
}

/** Ask what is shown; `source` is {key} or {body}, or null for a query that has no class. */
async function showName(source) {
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
  if (confidence > 0.99) return "over 99% confident";
  return confidence < 0.01 ? "below 1% confident" : `${percent(confidence)} confident`;
}
