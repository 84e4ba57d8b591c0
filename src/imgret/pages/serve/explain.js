// Why a hit was found: heat maps of both images, and the regions that correspond.

import {call, facts} from "./api.js";
import {make, percent} from "./dom.js";

/** Ask why an item is among the hits of a query, and return what shows it. */
export async function explain(query, answered, item) {
  const sizeOf = (key) => facts(key).then(({size}) => size, () => null);
  const [found, seen, size] = await Promise.all([
    call("explain", {params: part(query, item), body: query.image?.blob}),
    query.image ? answered?.size : query.like.length ? sizeOf(query.like[0]) : null,
    sizeOf(item.key),
  ]);
  const boxes = (name) => found.regions.map((region) => region[name]);
  const sides = [
    found.query ? side("Query", found.query, boxes("query"), seen) : null,
    side("This image", found.hit, boxes("hit"), size),
  ];
  return make("section", {class: "explained", "aria-labelledby": "why-title"},
    make("h3", {id: "why-title"}, "Why this image was found"),
    make("p", {class: "faint"}, `Score ${found.score.toFixed(3)}. Red parts add most to it. `
      + `Method: ${found.method}${found.reason ? ` (${found.reason})` : ""}.`),
    isSeveral(query) ? make("p", {class: "faint"}, "The query has several parts; "
      + "this compares with the first.") : "",
    make("div", {class: "sides"}, ...sides.filter(Boolean)),
    found.regions.length ? list(found.regions) : "");
}

/** Return the parameters for the first part of a query: a pair of images is compared. */
function part({image, box, like, text}, item) {
  const params = new URLSearchParams({key: item.key});
  if (image && box) params.set("box", box.join(","));
  else if (!image && like.length) params.set("like", like[0]);
  else if (!image) params.set("text", text);
  return params;
}

const isSeveral = ({image, like, text, unlike, notText}) =>
  (image ? 1 : 0) + like.length + unlike.length + (text ? 1 : 0) + (notText ? 1 : 0) > 1;

function side(title, url, boxes, size) {
  const picture = make("img", {src: url, alt: `Heat map: ${title.toLowerCase()}`});
  const stage = make("div", {class: "crop"}, picture);
  picture.addEventListener("load", () => {
    stage.style.setProperty("--ratio", picture.naturalWidth / picture.naturalHeight);
    const [w, h] = size ?? [picture.naturalWidth, picture.naturalHeight];
    boxes.forEach((box, n) => box && stage.append(outline(box, w, h, n)));
  });
  return make("figure", {}, stage, make("figcaption", {}, title));
}

function outline([x0, y0, x1, y1], w, h, n) {
  const box = make("span", {class: "link-box"}, String(n + 1));
  box.style.left = `${(100 * x0) / w}%`;
  box.style.top = `${(100 * y0) / h}%`;
  box.style.width = `${(100 * (x1 - x0)) / w}%`;
  box.style.height = `${(100 * (y1 - y0)) / h}%`;
  return box;
}

const list = (regions) => make("ol", {"aria-label": "Regions that correspond"},
  ...regions.map(({share}) => make("li", {}, `${percent(share)} of the similarity`)));
