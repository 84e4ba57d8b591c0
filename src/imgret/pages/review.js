// What a review of duplicates keeps, as commands that move the rest and as a list.
"use strict";

const {format, groups} = JSON.parse(document.getElementById("files").textContent);
const find = (id) => document.getElementById(id);
const sections = [...document.querySelectorAll(".group")];

/** Return the files of each group to keep and to move, as the boxes say. */
function plan() {
  return sections.map((section, i) => {
    const parts = {keep: [], move: []};
    for (const box of section.querySelectorAll("input[data-place]")) {
      parts[box.checked ? "keep" : "move"].push(groups[i][Number(box.dataset.place)]);
    }
    return parts;
  });
}

/** Quote a text for a shell: within single quotes every character stands for itself. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Return the names of the files in the folder, none of them twice. */
function named(files) {
  const taken = new Set();
  return files.map(({path}) => {
    const name = path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
    const dot = name.lastIndexOf(".") > 0 ? name.lastIndexOf(".") : name.length;
    let free = name;
    // Some disks ignore case.
    for (let n = 2; taken.has(free.toLowerCase()); n++) {
      free = `${name.slice(0, dot)}-${n}${name.slice(dot)}`;
    }
    taken.add(free.toLowerCase());
    return free;
  });
}

function commands() {
  const files = plan().flatMap(({move}) => move);
  if (!files.length) return "";
  const folder = find("folder").value.replace(/\/+$/, "") || ".";
  const names = named(files);
  const lines = files.map(({path}, i) => `mv -n -- ${quoted(path)} ${quoted(`${folder}/${names[i]}`)}`);
  return [`mkdir -p -- ${quoted(folder)}`, ...lines].join("\n") + "\n";
}

function show() {
  const parts = plan();
  sections.forEach((section, i) => section.classList.toggle("none", !parts[i].keep.length));
  const files = parts.flatMap(({move}) => move);
  const bytes = files.reduce((sum, {size}) => sum + Number(size ?? 0), 0);
  const size = bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e3).toFixed(0)} kB`;
  find("count").textContent = files.length
    ? `${files.length} ${files.length === 1 ? "file" : "files"}, ${size}` : "nothing to move";
  find("commands").textContent = commands();
  for (const id of ["copy", "save"]) find(id).disabled = !files.length;
}

/** Say for a moment on a button that it has done its work. */
function done(button, text) {
  const before = button.dataset.text ?? button.textContent;
  button.dataset.text = before;
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}

async function copy({currentTarget}) {
  const button = currentTarget;
  try {
    await navigator.clipboard.writeText(commands());
    done(button, "Copied");
  } catch {  // a page from a file may not use the clipboard in every browser
    find("shown").open = true;
    getSelection().selectAllChildren(find("commands"));
    done(button, document.execCommand("copy") ? "Copied" : "Press Ctrl+C");
  }
}

function save({currentTarget}) {
  const list = JSON.stringify({format, groups: plan().filter(({move}) => move.length)}, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([list], {type: "application/json"}));
  link.download = "duplicates.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  done(currentTarget, "Saved");
}

function reset() {
  for (const box of document.querySelectorAll("input[data-place]:enabled")) {
    box.checked = "best" in box.dataset;
  }
  show();
}

document.addEventListener("change", show);
find("folder").addEventListener("input", show);
find("copy").addEventListener("click", copy);
find("save").addEventListener("click", save);
find("reset").addEventListener("click", reset);
show();
