// Sorts and filters the rows that the page came with.
function setUpLeaderboard() {
  const table = byId("leaderboard");
  const rows = [...table.tBodies[0].rows];
  const form = byId("filters");

  function isShown(row) {
    const chosen = [...form.querySelectorAll("select")].every(
      (select) => !select.value || row.dataset[select.name] === select.value,
    );
    const words = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = row.textContent.toLowerCase();
    return chosen && words.every((word) => text.includes(word));
  }

  function filter() {
    for (const row of rows) row.hidden = !isShown(row);
    const shown = rows.filter((row) => !row.hidden).length;
    byId("shown").textContent = `${shown} of ${rows.length} runs`;
  }

  function sort(heading) {
    const column = heading.cellIndex;
    const isNumber = rows[0].cells[column].dataset.value !== undefined;
    const descending = heading.ariaSort === "none" ? isNumber : heading.ariaSort === "ascending";
    for (const other of heading.parentElement.cells) other.ariaSort = "none";
    heading.ariaSort = descending ? "descending" : "ascending";
    rows.sort((first, second) => compareCells(first.cells[column], second.cells[column], descending));
    table.tBodies[0].append(...rows);
  }

  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sort(heading));
  }
  // Of a choice some browsers tell only when it changed.
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // A reset event comes before the values change, so the button resets by itself.
  form.querySelector("[type=reset]").addEventListener("click", (event) => {
    event.preventDefault();
    form.reset();
    filter();
  });
  // Browsers keep what was chosen before a reload.
  filter();
}

function compareCells(first, second, descending) {
  const sign = descending ? -1 : 1;
  const [one, other] = [first.dataset.value, second.dataset.value];
  if (one === undefined) return sign * first.textContent.localeCompare(second.textContent, "en", { numeric: true });
  if (one === "" || other === "") return (one === "") - (other === "");
  return sign * (Number(one) - Number(other));
}
