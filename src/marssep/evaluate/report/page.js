"use strict";

// Headers of sortable tables become buttons: down first for numbers, up first for words, empty cells last.
const words = new Intl.Collator("en");

function compare(first, second, numbers) {
  return numbers ? Number(first) - Number(second) : words.compare(first, second);
}

function sort(table, place) {
  const head = table.tHead.rows[0].cells[place];
  const numbers = head.classList.contains("number");
  const before = head.getAttribute("aria-sort");
  const up = before ? before === "descending" : !numbers;
  const rows = Array.from(table.tBodies[0].rows);
  const key = (row) => row.cells[place].dataset.sort;
  const known = rows.filter((row) => key(row) !== undefined);
  known.sort((first, second) => (up ? 1 : -1) * compare(key(first), key(second), numbers));
  table.tBodies[0].append(...known, ...rows.filter((row) => key(row) === undefined));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((cell, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    button.addEventListener("click", () => sort(table, place));
    cell.replaceChildren(button);
  });
}

// Two recordings at once cannot be compared.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);
