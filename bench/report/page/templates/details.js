// Runs that share a backbone or a method: thresholds, classes, comparison.
function setUpDetails() {
  fillSelect(byId("detail-task"), page.tasks.map((task) => task.name));
  byId("detail-task").addEventListener("change", offerGroups);
  byId("detail-group").addEventListener("change", offerRuns);
  byId("detail-runs").addEventListener("change", showDetails);
  byId("threshold").addEventListener("input", moveThreshold);
  setUpGallery();
  byId("follow-slider")?.addEventListener("change", showClasses);
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  offerGroups();
}

function offerGroups() {
  const task = Number(byId("detail-task").value);
  const offered = page.groups.map((group, place) => [group, place]).filter(([group]) => group.task === task);
  byId("detail-group").replaceChildren(
    ...offered.map(([group, place]) => element("option", { value: place }, group.name)),
  );
  offerRuns();
}

function offerRuns() {
  const group = chosenGroup();
  byId("detail-runs").replaceChildren(
    ...group.names.map((name, member) => {
      const box = element("input", { type: "checkbox", value: member });
      box.checked = true;
      return element("label", {}, box, name);
    }),
  );
  resetSlider(group);
  showDetails();
}

function chosenGroup() {
  return page.groups[Number(byId("detail-group").value)];
}

// Members of the group whose box is checked.
function chosenRuns() {
  return [...byId("detail-runs").querySelectorAll("input:checked")].map((box) => Number(box.value));
}

function showDetails() {
  showThresholds(chosenGroup(), chosenRuns());
  showClasses();
  showComparison();
  showGallery();
}

function moveThreshold() {
  showAtThreshold(chosenGroup(), chosenRuns());
  if (byId("follow-slider")?.checked) showClasses();
}

function showClasses() {
  const [group, chosen] = [chosenGroup(), chosenRuns()];
  const runs = chosen.map((member) => page.runs[group.runs[member]]);
  const follows = byId("follow-slider")?.checked && thresholdsOf(group).length > 1;
  const iou = (run, place) => (follows ? run.class_curves[place][thresholdPlace()] : run.class_iou[place]);
  const table = byId("class-table");
  table.tHead.replaceChildren(element("tr", {}, ...headings(["class", ...chosen.map((member) => group.names[member])])));
  table.tBodies[0].replaceChildren(
    ...page.tasks[group.task].classes.map((name, place) =>
      element("tr", {}, element("th", { scope: "row" }, name), ...runs.map((run) => numberCell(number(iou(run, place))))),
    ),
  );
}

function showComparison() {
  const [group, chosen] = [chosenGroup(), chosenRuns()];
  const names = chosen.map((member) => group.names[member]);
  const differences = new Map();
  for (const difference of group.differences) {
    const { run, reference, value, low, high } = difference;
    differences.set(`${run} ${reference}`, difference);
    const mirrored = low === null ? {} : { low: -high, high: -low };
    differences.set(`${reference} ${run}`, { ...difference, value: -value, ...mirrored });
  }
  const table = byId("comparison-table");
  table.tHead.replaceChildren(element("tr", {}, ...headings(["row less column", ...names])));
  table.tBodies[0].replaceChildren(
    ...chosen.map((member, place) =>
      element(
        "tr", {}, element("th", { scope: "row" }, names[place]),
        ...chosen.map((other) => differenceCell(differences.get(`${group.runs[member]} ${group.runs[other]}`))),
      ),
    ),
  );
}

function differenceCell(difference) {
  if (!difference || difference.value === null) return numberCell("–");
  const { value, low, high, p, is_significant: isSignificant } = difference;
  if (low === null) return numberCell(`${signed(value)}‡`);
  const side = isSignificant ? (value > 0 ? "better" : "worse") : "";
  return element(
    "td", { class: `number ${side}` },
    element(isSignificant ? "strong" : "span", {}, signed(value)),
    element("span", { class: "small" }, `[${signed(low)}, ${signed(high)}]`),
    element("span", { class: "small" }, p < 0.0001 ? "p < 0.0001" : `p = ${p}`),
  );
}
