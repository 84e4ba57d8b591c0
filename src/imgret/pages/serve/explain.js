// Why a hit was found: heat maps of both images, and the regions that correspond.

import {call, facts} from "./api.js";
import {make, percent} from "./dom.js";
import {parameters} from "./query.js";

/** Ask why an item is among the hits of a query, and return what shows it. */
export async function explain(query, answered, item) {
  const params = parameters(query);
  params.set("key", item.key);
  const [found, about] = await Promise.all([
    call("explain", {params, body: query.image?.blob}),
    facts(item.key).catch(() => ({size: null})),
  ]);
  const boxes = (name) => found.regions.map((region) => region[name]);
  const sides = [
    found.query ? side("Query", found.query, boxes("query"), answered?.size) : null,
    side("This image", found.hit, boxes("hit"), about.size),
  ];
  return make("section", {class: "explained", "aria-labelledby": "why-title"},
    make("h3", {id: "why-title"}, "Why this image was found"),
    make("p", {class: "faint"}, `Score ${found.score.toFixed(3)}. Warm parts add to it. `
      + `Method: ${found.method}.`),
    make("div", {class: "sides"}, ...sides.filter(Boolean)),
    found.regions.length ? list(found.regions) : "");
}

function side(title, url, boxes, size) {
  const picture = make("img", {src: url, alt: `Heat map: ${title.toLowerCase()}`});
  const stage = make("div", {class: "crop"}, picture);
  picture.addEventListener("load", () => {
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
