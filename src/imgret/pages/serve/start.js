// Before there is a gallery: the choice of a folder, and the progress of indexing.

import {call, isOpen} from "./api.js";
import {announce, calm, complain, counted, fill, find, make, number} from "./dom.js";

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

/**
 * Return the facts of the gallery, once there is one.
 *
 * `refresh()` is called when images were added while the page shows the gallery.
 */
export async function waitForGallery({refresh}) {
  for (;;) {
    const state = await call("indexing");
    showProgress(state);
    if (await isOpen()) {
      find("start").hidden = true;
      if (state.state === "running") follow(refresh);
      return call("gallery");
    }
    if (state.state === "none") await chosen(state.choices);
    else if (state.state === "failed") throw new Error(`Indexing failed: ${state.message}`);
    else await pause(500);
  }
}

/** Show the progress until indexing ends. */
async function follow(refresh) {
  let seen = 0;
  for (;;) {
    await pause(1000);
    const [state, gallery] = await Promise.all([call("indexing"), call("gallery")])
      .catch((error) => [complain(error), null]);
    if (!state) return undefined;
    showProgress(state, gallery.items);
    find("size").textContent = counted(gallery.items, "image");
    if (state.state !== "running") {
      await refresh();
      return state.state === "failed"
        ? complain(new Error(`Indexing failed: ${state.message}`)) : announce(state.message);
    }
    // The first images appear at once, further ones now and then: the list should not jump.
    if (gallery.items > 2 * seen) {
      seen = gallery.items;
      await refresh();
    }
  }
}

function showProgress({state, folder, done, total}, searched = 0) {
  find("indexing").hidden = state !== "running";
  if (state !== "running") return;
  const bar = find("indexing-progress");
  const already = searched ? ` ${number(searched)} can be searched already.` : "";
  find("indexing-title").textContent = total
    ? `Indexing ${folder}: ${number(done)} of ${counted(total, "image")}.${already}`
    : `Looking for images in ${folder} …`;
  if (total) Object.assign(bar, {max: total, value: done});
  else bar.removeAttribute("value");  // shows that something goes on
}

// -- the choice ---------------------------------------------------------------------------------

/** Wait until a folder is chosen. */
function chosen(choices) {
  const page = find("start");
  page.hidden = false;
  return new Promise((done) => {
    fill(page, make("h2", {}, "Which images should be searched?"), ...offer(choices, done));
  });
}

function offer(choices, done) {
  if (!choices.length) {
    return [make("p", {}, "There are no images in the folder in which the server was started. "
      + "Stop it, and name a folder: ", make("code", {}, "imgret serve photos/"))];
  }
  return [
    make("p", {class: "faint"}, "The images stay where they are. The index is written beside the "
      + "folder, and can be searched while it grows."),
    make("ul", {class: "choices"}, ...choices.map((choice) => make("li", {}, make("button", {
      type: "button", onclick: (event) => take(choice, event.currentTarget, done),
    }, make("b", {}, choice.name), make("span", {}, countOf(choice)))))),
  ];
}

const countOf = ({images}) =>
  (images >= 10_000 ? `${number(10_000)} images or more` : counted(images, "image"));

async function take(choice, button, done) {
  calm();
  button.disabled = true;
  try {
    await call(`indexing/${encodeURIComponent(choice.id)}`, {method: "POST"});
    fill(find("start"), make("p", {class: "faint"}, `Indexing ${choice.name} …`));
    done();
  } catch (error) {
    button.disabled = false;
    complain(error);
  }
}
