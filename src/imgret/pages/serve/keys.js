// The links, buttons and keys that belong to the page as a whole.

import {find, notify} from "./dom.js";

const otherWindow = (event) => event.metaKey || event.ctrlKey || event.shiftKey;
const isTyping = (target) =>
  target.matches?.("input:not([type=checkbox], [type=file]), textarea, select");

/** Listen to links, buttons and keys; `isWhole()` tells whether a link says the whole query. */
export function listen({ask, show, visit, searchMarked, isWhole}) {
  window.addEventListener("popstate", show);
  find("copy").addEventListener("click", () => copyLink(isWhole()));
  find("help").addEventListener("click", () => find("shortcuts").showModal());
  find("skip").addEventListener("click", (event) => {
    event.preventDefault();  // an address with a fragment would be another entry of the history
    find("results").focus();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("#nav a, #home");
    if (!link || otherWindow(event)) return;
    event.preventDefault();
    visit(link.getAttribute("href"));
  });
  document.addEventListener("keydown", (event) => {
    if (otherKey(event) || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "/") ask.focus();
    else if (event.key === "?") find("shortcuts").showModal();
    else if (event.key === "s" || event.key === "S") searchMarked();
    else return;
    event.preventDefault();
  });
}

const otherKey = (event) => event.ctrlKey || event.metaKey || event.altKey;

async function copyLink(whole) {
  const note = whole ? "" : "The link does not contain your image, which stays on this computer.";
  try {
    await navigator.clipboard.writeText(location.href);
    notify(`Link copied. ${note}`.trim());
  } catch {  // only pages with TLS, or on this computer, may write to the clipboard
    find("link-text").value = location.href;
    find("link-note").textContent = note;
    find("link").showModal();
    find("link-text").select();
  }
}
