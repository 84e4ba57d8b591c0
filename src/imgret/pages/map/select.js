// The selection, and the ways its keys leave the page.
"use strict";

const chosenKeys = () => [...state.selected].sort((a, b) => a - b).map((i) => data.keys[i]);

function select(items, on = true) {
  items.forEach((i) => on ? state.selected.add(i) : state.selected.delete(i));
  showSelection();
}

function toggle(i) {
  select([i], !state.selected.has(i));
}

// Items inside a closed line, by the even-odd rule.
function enclosed(path) {
  return actives().filter((i) => {
    const [x, y] = place(i);
    let odd = false;
    path.forEach(([x1, y1], at) => {
      const [x0, y0] = path[(at || path.length) - 1];
      if ((y0 > y) !== (y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0) odd = !odd;
    });
    return odd;
  });
}

function showSelection() {
  const size = state.selected.size;
  find("picked").textContent = size ? `${size.toLocaleString("en")} of ${n.toLocaleString("en")} selected`
    : "Nothing selected.";
  find("keys").value = chosenKeys().join("\n");
  find("keys").hidden = !size;
  for (const id of ["clear", "copy", "save-text", "save-json"]) find(id).disabled = !size;
  showCard();
  redraw();
}

async function copyKeys() {
  try {
    await navigator.clipboard.writeText(chosenKeys().join("\n"));
  } catch {  // a browser that does not allow it to this page
    find("keys").select();
    document.execCommand("copy");
  }
  say(`${state.selected.size} keys copied`);
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

find("clear").addEventListener("click", () => select([...state.selected], false));
find("copy").addEventListener("click", copyKeys);
find("save-text").addEventListener("click",
  () => save("keys.txt", "text/plain", chosenKeys().join("\n") + "\n"));
find("save-json").addEventListener("click",
  () => save("keys.json", "application/json", JSON.stringify(chosenKeys(), null, 1) + "\n"));
find("pick-view").addEventListener("click", () => select(inView()));
find("pick-found").addEventListener("click", () => select(actives()));
