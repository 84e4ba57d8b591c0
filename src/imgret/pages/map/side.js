// Search, and the list of labels.
"use strict";

const list = document.querySelector("ul");
const search = find("search");

function showFound() {
  refresh();
  const count = active.reduce((sum, one) => sum + one, 0);
  const all = !state.words.length && state.only === null;
  find("found").textContent = all ? ""
    : `${count.toLocaleString("en")} of ${n.toLocaleString("en")} items`;
  find("pick-found").hidden = all;
  redraw();
}

function showOnly(label) {
  state.only = state.only === label ? null : label;
  [...list.children].forEach((item, at) => {
    const shown = state.only === null || state.only === at;
    item.classList.toggle("off", !shown);
    item.firstChild.setAttribute("aria-pressed", String(state.only === at));
  });
  showFound();
}

function addLabel(name, label) {
  const [item, show, dot, text, count, pick] =
    ["li", "button", "i", "span", "small", "button"].map((tag) => document.createElement(tag));
  dot.style.background = color(label);
  text.textContent = show.title = name;
  count.textContent = data.counts[label];
  show.type = pick.type = "button";
  show.setAttribute("aria-pressed", "false");
  show.append(dot, text, count);
  show.addEventListener("click", () => showOnly(label));
  pick.textContent = "+";
  pick.title = `Select all of ${name}`;
  pick.setAttribute("aria-label", pick.title);
  pick.addEventListener("click",
    () => select(data.label.flatMap((one, i) => one === label ? [i] : [])));
  item.append(show, pick);
  list.append(item);
}

search.addEventListener("input", () => {
  state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  showFound();
});
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  fit(actives());
  redraw();
});
dark.addEventListener("change", () => {
  [...list.children].forEach((item, label) => {
    item.querySelector("i").style.background = color(label);
  });
  redraw();
});

data.labels.forEach(addLabel);
list.parentElement.hidden = !data.labels.length;
