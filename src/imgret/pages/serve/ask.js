// The query panel: the image with its crop box, words, other parts of the query.

import {facts, image as itemImage, preview, thumbnail} from "./api.js";
import {Crop, cropButton} from "./crop.js";
import {fill, find, icon, make} from "./dom.js";

/**
 * The query panel.
 *
 * `on` has the functions `image(file)`, `words(text, notText)`, `box(box)`, `change(parts)`, and
 * `ready()` once an item or the image of a box is shown.
 */
export class Ask {
  constructor(on) {
    this.on = on;
    this.picture = null;
    find("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      on.words(find("text").value.trim(), find("not-text").value.trim());
    });
    for (const id of ["file", "camera"]) {
      find(id).addEventListener("change", ({target}) => {
        if (target.files.length) on.image(target.files[0]);
        target.value = "";  // so that the same file can be chosen again
      });
    }
    listenForImages(on.image);
  }

  /** Show whether the gallery can be searched by words. */
  allow(readsText) {
    find("words").hidden = !readsText;
  }

  /** Move the focus to where a query starts. */
  focus() {
    find(find("words").hidden ? "file" : "text").focus();
  }

  render(query) {
    find("text").value = query.text;
    find("not-text").value = query.notText;
    this.renderImage(query);
    this.renderParts(query);
  }

  // -- the image -----------------------------------------------------------------------------

  renderImage(query) {
    const figure = find("shown");
    const key = query.image ? null : query.like[0] ?? null;
    const id = query.image ? `image ${query.image.id}` : key === null ? "" : `item ${key}`;
    if (id && id === this.id) return this.showBox(query.box);  // keeps the focus on the box
    this.id = id;
    this.picture = this.crop = null;
    figure.hidden = !id;
    if (!id) return fill(figure);
    if (query.image) {
      const {name, url} = query.image;
      return this.showImage(figure, {name, url, without: {image: null, box: null}}, query);
    }
    return this.showItem(figure, key, query);
  }

  /** Show an item, which may have no image. */
  async showItem(figure, key, query) {
    const id = this.id;
    const found = await facts(key).catch(() => null);
    if (this.id !== id) return;
    const without = {like: query.like.slice(1)};
    const url = found?.image ? itemImage(key, 1024) : null;
    const lack = found ? "This item has no image" : "Not in this gallery";
    this.showImage(figure, {name: key, url, lack, without}, query);
  }

  showImage(figure, {name, url, lack, without}, query) {
    const stage = make("div", {class: "stage"});
    const buttons = make("span", {});
    const close = make("button", {
      type: "button", class: "plain close", "aria-label": `Remove ${name} from the query`,
      onclick: () => this.on.change(without),
    }, icon("close"));
    fill(figure, stage, make("figcaption", {}, make("div", {class: "line"},
      make("span", {class: "name-of", title: name}, name.split("/").at(-1)), buttons, close)));
    if (!url) return fill(stage, make("p", {class: "nothing"}, lack));
    const picture = make("img", {alt: `Query image: ${name}`, onload: () => ready(), src: url});
    picture.addEventListener("error", () => this.replace(picture, stage, query), {once: true});
    fill(stage, picture);
    const id = this.id;
    const ready = () => {
      if (this.id !== id) return;
      this.picture = picture;
      this.addCrop(stage, buttons, picture, query);
      if (!query.image || query.box) this.on.ready();
    };
    return undefined;
  }

  addCrop(stage, buttons, picture, query) {
    const size = query.image?.size ?? [picture.naturalWidth, picture.naturalHeight];
    const whole = make("button", {
      type: "button", class: "plain", onclick: () => { this.crop.set(null); search(null); },
    }, "Uncrop");
    const start = cropButton(() => this.crop.begin());
    const offer = (box) => {
      whole.hidden = !box;
      start.hidden = Boolean(box);
    };
    const search = (box) => {
      offer(box);
      clearTimeout(this.waiting);  // keys come in bursts
      this.waiting = setTimeout(() => this.on.box(box), 300);
    };
    this.crop = new Crop(picture, {size, box: query.box, onchange: search});
    this.offer = offer;
    offer(query.box);
    fill(stage, this.crop.stage);
    fill(buttons, start, whole);
  }

  showBox(box) {
    this.crop?.set(box);
    this.offer?.(box);
  }

  /** Ask the server for a picture of a file that the browser cannot show. */
  async replace(picture, stage, query) {
    const nothing = () => fill(stage, make("p", {class: "nothing"}, "No preview of this image"));
    if (!query.image) return nothing();
    try {
      picture.addEventListener("error", nothing, {once: true});
      picture.src = URL.createObjectURL(await preview(query.image.blob));
    } catch {
      nothing();  // the search says what is wrong with the file
    }
    return undefined;
  }

  /** Take the size that the server found, which counts for files shown by a preview. */
  sized(size) {
    if (size && this.crop && String(size) !== String(this.crop.size)) {
      this.crop.set(this.crop.box, size);
    }
  }

  // -- other parts ---------------------------------------------------------------------------

  renderParts(query) {
    const like = query.image ? query.like : query.like.slice(1);
    const part = (key, kind, without) => make("li", {class: kind},
      make("img", {src: thumbnail(key, 96), alt: "", width: "40", height: "40"}),
      make("span", {}, kind === "unlike" ? `not ${key}` : key),
      make("button", {
        type: "button", class: "plain", "aria-label": `Remove ${key} from the query`,
        onclick: () => this.on.change(without),
      }, icon("close")));
    const left = (keys, key) => keys.filter((each) => each !== key);
    const list = find("parts");
    fill(list,
      ...like.map((key) => part(key, "like", {like: left(query.like, key)})),
      ...query.unlike.map((key) => part(key, "unlike", {unlike: left(query.unlike, key)})));
    list.hidden = !list.children.length;
  }
}

/** Take images that are dropped anywhere, or pasted. */
function listenForImages(take) {
  const cover = find("dropping");
  let inside = 0;  // dragenter and dragleave also tell of every element within
  const over = (yes) => { cover.hidden = !yes; };
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (hasFile(event)) over(++inside > 0);
  });
  document.addEventListener("dragleave", (event) => {
    if (hasFile(event)) over(--inside > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (hasFile(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    over((inside = 0) > 0);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}
