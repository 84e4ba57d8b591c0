// Sorts tables of class "sortable" by a click on a column header; a second click reverses.
"use strict";

for (const th of document.querySelectorAll("table.sortable th")) {
  th.querySelector("button").addEventListener("click", () => {
    const down = th.getAttribute("aria-sort") !== "descending";
    const table = th.closest("table");
    for (const other of table.tHead.rows[0].cells) {
      other.removeAttribute("aria-sort");
    }
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const x = a.cells[th.cellIndex].textContent;
      const y = b.cells[th.cellIndex].textContent;
      const order = isNumber(x) && isNumber(y)
        ? x - y
        : x.localeCompare(y, undefined, { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows);
  });
}

function isNumber(text) {
  return text !== "" && Number.isFinite(Number(text));
}
