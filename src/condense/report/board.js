"use strict";
// Sorts the board by a click on a head, and filters it; both without a network.
(function () {
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const rows = Array.from(body.rows);
  const find = document.getElementById("find");
  const choices = Array.from(document.querySelectorAll("#filters select"));
  const count = document.getElementById("count");

  function valueOf(row, place) {
    const text = row.cells[place].dataset.v;
    const number = Number(text);
    return text !== "" && !Number.isNaN(number) ? number : text;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b));
  }

  function sortBy(place) {
    const head = heads[place];
    // Numbers first from the largest: who sorts wants the best
    const numeric = rows.some((row) => typeof valueOf(row, place) === "number");
    const before = head.getAttribute("aria-sort");
    const direction = before === null ? (numeric ? "descending" : "ascending")
      : before === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((one, other) => {
      const a = valueOf(one, place), b = valueOf(other, place);
      // Empty cells stay below, whichever way
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * compare(a, b);
    });
    rows.forEach((row) => body.appendChild(row));
  }

  function filter() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && choices.every(
        (choice) => choice.value === "" || row.cells[choice.dataset.column].textContent === choice.value);
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  }

  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => sortBy(place)));
  find.addEventListener("input", filter);
  choices.forEach((choice) => choice.addEventListener("change", filter));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
