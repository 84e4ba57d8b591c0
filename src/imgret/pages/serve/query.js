// The query, and its address. Everything but an image from the user's disk is in the address, so
// that links can be shared and Back works; such images are kept here while the page is open.

const kept = new Map();
let last = 0;

/** Make a query from some of its parts. */
export function query(parts = {}) {
  return {
    image: null, box: null, text: "", notText: "", like: [], unlike: [], where: {}, lost: false,
    ...parts,
  };
}

/** Keep an image from the user's disk; `key` names the item if it comes from the gallery. */
export function keep(blob, name, key = null) {
  // The time makes it different from an image of the page before a reload.
  const id = `${Date.now()}-${++last}`;
  const image = {blob, name, key, id, url: URL.createObjectURL(blob), size: null};
  kept.set(image.id, image);
  return image;
}

/** Whether there is something to search with. */
export const asks = (query) =>
  Boolean(query.image || query.text || query.like.length);

/** Return the parameters of the API. */
export function parameters(query) {
  const params = new URLSearchParams();
  if (query.text) params.append("text", query.text);
  if (query.notText) params.append("not_text", query.notText);
  for (const key of query.like) params.append("like", key);
  for (const key of query.unlike) params.append("unlike", key);
  if (query.image && query.box) params.set("box", query.box.join(","));
  if (Object.keys(query.where).length) params.set("where", JSON.stringify(query.where));
  return params;
}

/** Return the address of a query. */
export function address(query) {
  const params = parameters(query);
  if (query.image?.key) params.set("part_of", query.image.key);
  else if (query.image) params.set("image", "own");
  return params.size ? `?${params}` : "./";
}

/** Read an address, and what was kept with it in the history. */
export function read(search, state) {
  const params = new URLSearchParams(search);
  const image = kept.get(state?.image) ?? null;
  return query({
    image,
    partOf: image ? null : params.get("part_of"),
    lost: !image && params.has("image"),  // the link or the page's history is all there is
    box: image || params.has("part_of") ? box(params.get("box")) : null,
    text: params.get("text") ?? "",
    notText: params.get("not_text") ?? "",
    like: params.getAll("like"),
    unlike: params.getAll("unlike"),
    where: conditions(params.get("where")),
  });
}

function box(text) {
  const sides = (text ?? "").split(",").map(Number);
  return sides.length === 4 && sides.every(Number.isInteger) ? sides : null;
}

function conditions(text) {
  try {
    const where = JSON.parse(text ?? "{}");
    return where !== null && typeof where === "object" && !Array.isArray(where) ? where : {};
  } catch {
    return {};
  }
}
