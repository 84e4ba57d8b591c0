// The server's JSON API. Addresses are relative, so that it also works below a path of a proxy.

/** What the server answered instead of a result; its message is written for people. */
export class ApiError extends Error {
  constructor(message, status = 0, kind = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.kind = kind;
  }
}

/** Hands out signals, and aborts the request with the former one: only the latest counts. */
export class Latest {
  next() {
    this.abort();
    this.controller = new AbortController();
    return this.controller.signal;
  }

  abort() {
    this.controller?.abort();
  }
}

/** Ask the server, and return the JSON of its answer. */
export async function call(path, {params, body, method, signal, headers} = {}) {
  const query = params?.size ? `?${params}` : "";
  const how = method ?? (body === undefined ? "GET" : "POST");
  const response = await reach(`api/${path}${query}`, {method: how, body, signal, headers});
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Whether there is a gallery yet. */
export async function isOpen() {
  const response = await reach("healthz", {});
  return response.ok && (await response.json()).status === "ok";
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Check that imgret serve is still running.");
  }
}

async function refusal(response) {
  const answer = await response.json().catch(() => null);  // a proxy may answer with a page
  const {message, kind} = answer?.error ?? {};
  return new ApiError(message || `The server answered ${response.status}.`, response.status, kind);
}

/** Ask again until work in the background has ended; `tell` is called with the share that is done. */
export async function finished(path, signal, tell) {
  for (;;) {
    const found = await call(path, {signal});
    if (found.state !== "running") return found;
    tell(found.total ? `${Math.floor(100 * found.done / found.total)} %` : "");
  }
}

const item = (key) => `items/${encodeURIComponent(key)}`;

export const thumbnail = (key, side = 256) => `api/${item(key)}/thumbnail?side=${side}`;
export const image = (key, side = 1600) => `api/${item(key)}/image?side=${side}`;
export const facts = (key, signal) => call(`${item(key)}/facts`, {signal});
export const remove = (key) => call(item(key), {method: "DELETE"});

/** Give an item another label, if it still has the label that is shown. */
export function relabel(key, label, expected) {
  return call(item(key), {
    method: "PATCH",
    headers: {"content-type": "application/json"},
    body: JSON.stringify({label, expected}),
  });
}

/** Return the image of an item as a file. */
export async function imageFile(key, signal) {
  const response = await reach(image(key, 2048), {signal});
  if (!response.ok) throw await refusal(response);
  return response.blob();
}

/** Return an image that browsers cannot show, such as TIFF, as a JPEG. */
export async function preview(file, signal) {
  const response = await reach("api/preview", {method: "POST", body: file, signal});
  if (!response.ok) throw await refusal(response);
  return response.blob();
}

const LONGEST = 12_000;  // characters of an address; servers take at least 16,000

/** Return the items with these keys, in their order; keys that are gone are left out. */
export async function items(keys, signal) {
  const found = new Map();
  for (const some of portions(keys)) {
    const where = JSON.stringify({key: {$in: some}});
    const params = new URLSearchParams({where, limit: some.length});
    for (const each of (await call("items", {params, signal})).items) found.set(each.key, each);
  }
  return keys.filter((key) => found.has(key)).map((key) => found.get(key));
}

function* portions(keys) {
  let some = [], length = 0;
  for (const key of keys) {
    const more = encodeURIComponent(key).length + 12;
    if (some.length && (some.length === 200 || length + more > LONGEST)) {
      yield some;
      [some, length] = [[], 0];
    }
    some.push(key);
    length += more;
  }
  if (some.length) yield some;
}
