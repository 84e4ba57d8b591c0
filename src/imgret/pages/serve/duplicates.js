// Duplicates, group by group: what to keep, and what becomes of the rest.

import * as api from "./api.js";
import {announce, complain, counted, fill, find, make, notify} from "./dom.js";

/** Find the duplicates, saying how far it is, and show them. */
export async function showDuplicates(page, signal) {
  const found = await api.finished("curate/duplicates", signal,
    (share) => page.heading("Duplicates", `Comparing images … ${share}`));
  if (found.state === "failed") throw new Error(found.message);
  new Review(found, page).show();
}

class Review {
  constructor(found, page) {
    this.found = found;
    this.page = page;
    this.list = find("hits");
  }

  show() {
    const {groups, hidden, removable, unhashed} = this.found;
    const notes = [groups.length
      ? `${counted(groups.length + hidden, "group")}; removing ${counted(removable, "image")} `
        + "would leave no duplicates"
      : "No image is in the gallery twice."];
    if (hidden) {
      const all = (groups.length + hidden).toLocaleString("en");
      notes.push(`The first ${groups.length} of ${all} groups are shown.`);
    }
    if (unhashed) notes.push(`${counted(unhashed, "image")} could not be compared.`);
    this.page.heading("Duplicates", notes.join(" · "));
    fill(this.list, ...groups.map((group, i) => this.group(group, i)));
    this.list.hidden = !groups.length;
    find("end").textContent = hidden
      ? `${counted(hidden, "more group")} not shown: move or remove images of these first, then open `
        + "this view again." : "";
    if (groups.length) fill(find("review"), ...this.tools());
    find("review").hidden = !groups.length;
    this.list.onchange = () => this.tell();
    this.tell();
  }

  group({files, best, score}, i) {
    return make("li", {class: "group", "data-group": i},
      make("h3", {}, `${counted(files.length, "image")} `,
        make("span", {class: "faint"}, `score ${score.toFixed(3)}`)),
      make("ul", {}, ...files.map((file, n) => this.file(file, n === best, `keep-${i}-${n}`, n))));
  }

  file(file, best, id, place) {
    const facts = [
      file.width ? `${file.width.toLocaleString("en")} × ${file.height.toLocaleString("en")} pixels`
        : null,
      file.size === null ? null : bytes(file.size),
      file.modified || null,
      file.sharpness === null ? null : `sharpness ${Math.round(file.sharpness).toLocaleString("en")}`,
    ].filter(Boolean);
    const box = make("input", {
      type: "checkbox", id, "data-place": place, checked: best || Boolean(file.problem),
      disabled: Boolean(file.problem), "data-best": best,
    });
    return make("li", {class: "choice"},
      make("label", {for: id, class: "shot"}, make("img", {
        src: api.thumbnail(file.key), alt: file.key, width: "200", height: "200", loading: "lazy",
        decoding: "async",
      })),
      make("p", {class: "keep"}, box, make("label", {for: id}, "Keep"),
        best ? make("b", {}, "best") : null,
        make("button", {type: "button", onclick: () => this.open(file.key)}, "Details")),
      make("p", {class: "key"}, file.key),
      ...facts.map((fact) => make("p", {class: "faint"}, fact)),
      file.problem ? make("p", {class: "odd"}, file.problem) : null);
  }

  async open(key) {
    try {
      const [item] = await api.items([key]);
      if (item) this.page.open(item);
    } catch (error) {
      complain(error);
    }
  }

  tools() {
    this.count = make("p", {role: "status"});
    this.folder = make("input", {
      value: "duplicates", spellcheck: "false", oninput: () => this.tell(),
    });
    this.buttons = [
      make("button", {type: "button", onclick: () => this.copy()}, "Copy commands"),
      make("button", {type: "button", onclick: () => this.save()}, "Save list"),
    ];
    if (this.page.gallery.writable) {
      this.buttons.push(make("button", {type: "button", onclick: () => this.remove()},
        "Remove from gallery"));
    }
    this.text = make("pre", {tabindex: "0", "aria-label": "Commands"});
    return [
      make("div", {class: "line"}, make("h3", {}, "Not kept"), this.count,
        make("label", {}, "Move to folder ", this.folder), ...this.buttons),
      make("details", {}, make("summary", {}, "Commands"), this.text,
        make("p", {class: "faint"}, "Run them in the folder that was indexed. They move files and "
          + "never overwrite. To have each file checked for changes first, and the gallery "
          + "updated, save the list and run imgret duplicates GALLERY --review LIST --move FOLDER.")),
    ];
  }

  /** Return the files of each group to keep and to move, as the boxes say. */
  plan() {
    return [...this.list.querySelectorAll(".group")].map((element) => {
      const parts = {keep: [], move: []};
      for (const box of element.querySelectorAll("input[data-place]")) {
        const {key, size, mtime_ns} = this.found.groups[element.dataset.group].files[box.dataset.place];
        const file = {key, path: null, size: size === null ? null : String(size), mtime_ns};
        parts[box.checked ? "keep" : "move"].push(file);
      }
      return parts;
    });
  }

  moved() {
    return this.plan().flatMap(({move}) => move);
  }

  tell() {
    if (!this.found.groups.length) return;
    const files = this.moved();
    const size = files.reduce((sum, file) => sum + Number(file.size ?? 0), 0);
    this.count.textContent = files.length
      ? `${counted(files.length, "image")}, ${bytes(size)}` : "nothing";
    this.text.textContent = commands(files.map(({key}) => key), this.folder.value);
    for (const button of this.buttons) button.disabled = !files.length;
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.text.textContent);
      notify("The commands are in the clipboard.");
    } catch {  // without https the clipboard may be closed
      this.text.closest("details").open = true;
      getSelection().selectAllChildren(this.text);
      notify("Press Ctrl+C to copy the commands.");
    }
  }

  save() {
    const groups = this.plan().filter(({move}) => move.length);
    const list = JSON.stringify({format: this.found.format, groups}, null, 1);
    const link = make("a", {
      href: URL.createObjectURL(new Blob([list], {type: "application/json"})),
      download: "duplicates.json",
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async remove() {
    const files = this.moved();
    for (const button of this.buttons) button.disabled = true;
    let gone = 0;
    try {
      for (const {key} of files) {
        await api.remove(key);
        this.drop(key);
        gone += 1;
      }
    } catch (error) {
      complain(error);
    }
    notify(`${counted(gone, "image")} removed from the gallery. The files are still there.`);
    this.tell();
    await this.page.refresh();
  }

  /** Take a file out of its group, and the group away if only one is left. */
  drop(key) {
    for (const element of this.list.querySelectorAll(".group")) {
      const {files} = this.found.groups[element.dataset.group];
      for (const box of element.querySelectorAll("input[data-place]")) {
        if (files[box.dataset.place].key === key) box.closest(".choice").remove();
      }
      if (element.querySelectorAll(".choice").length < 2) element.remove();
    }
    announce(`“${key}” was removed`);
  }
}

/** Quote a text for a shell: within single quotes every character stands for itself. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Return the commands that move files into a folder, under names of which none occurs twice. */
function commands(paths, folder) {
  const place = folder.replace(/\/+$/, "") || ".";
  const taken = new Set();
  const lines = paths.map((path) => {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const dot = name.lastIndexOf(".") > 0 ? name.lastIndexOf(".") : name.length;
    let free = name;
    for (let n = 2; taken.has(free.toLowerCase()); n++) {
      free = `${name.slice(0, dot)}-${n}${name.slice(dot)}`;
    }
    taken.add(free.toLowerCase());  // some disks ignore case
    return `mv -n -- ${quoted(path)} ${quoted(`${place}/${free}`)}`;
  });
  return lines.length ? `${[`mkdir -p -- ${quoted(place)}`, ...lines].join("\n")}\n` : "";
}

function bytes(size) {
  if (size >= 1e6) return `${(size / 1e6).toFixed(1)} MB`;
  return size >= 1e3 ? `${(size / 1e3).toFixed(1)} kB` : `${size} bytes`;
}
