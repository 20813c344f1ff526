// The stored sweep of thresholds of the chosen runs.
function thresholdsOf(group) {
  return page.tasks[group.task].thresholds;
}

function thresholdPlace() {
  return Number(byId("threshold").value);
}

// A method looks alike in all figures; backbones are numbered.
function styleOf(group, member) {
  const runs = group.runs.map((place) => page.runs[place]);
  const method = METHODS.indexOf(runs[member].method);
  const differ = new Set(runs.map((run) => run.method)).size === runs.length;
  return differ ? method : member;
}

function resetSlider(group) {
  const thresholds = thresholdsOf(group);
  const slider = byId("threshold");
  slider.max = thresholds.length - 1;
  slider.value = Math.max(0, thresholds.indexOf(page.runs[group.runs[0]].threshold));
}

function showThresholds(group, chosen) {
  const isSwept = thresholdsOf(group).length > 1;
  byId("thresholds").hidden = !isSwept;
  byId("no-thresholds").hidden = isSwept;
  if (!isSwept) return;
  drawCurves(group, chosen);
  byId("threshold-legend").replaceChildren(...chosen.map((member) => legendItem(styleOf(group, member), group.names[member])));
  showAtThreshold(group, chosen);
}

function drawCurves(group, chosen) {
  const thresholds = thresholdsOf(group);
  const curves = chosen.map((member) => page.runs[group.runs[member]].curve);
  const highest = Math.max(1, ...curves.flat().filter((value) => value !== null));
  const svg = byId("threshold-figure");
  const bounds = [thresholds[0], thresholds.at(-1)];
  const plot = emptyPlot(svg, {
    xLabel: "threshold",
    yBounds: [0, Math.min(100, highest * 1.05)],
    makeX: (range) => linear(bounds, range),
    xTicks: roundTicks(...bounds, 8),
  });
  chosen.forEach((member, place) => {
    const run = page.runs[group.runs[member]];
    const points = curves[place].map((value, step) => [plot.x(thresholds[step]), value === null ? null : plot.y(value)]);
    svg.append(shape("path", { d: polyline(points), ...lineStyle(styleOf(group, member)) }));
    const own = points[thresholds.indexOf(run.threshold)];
    if (own && own[1] !== null) svg.append(mark(styleOf(group, member), ...own));
  });
  svg.append(shape("path", { id: "threshold-line", class: "cursor" }));
  svg.drawnPlot = plot;
}

// Moves the line and the numbers, nothing else.
function showAtThreshold(group, chosen) {
  const thresholds = thresholdsOf(group);
  const place = thresholdPlace();
  const { x, box } = byId("threshold-figure").drawnPlot;
  byId("threshold-line").setAttribute("d", `M${x(thresholds[place])} ${box.top}V${box.bottom}`);
  byId("threshold-value").textContent = thresholds[place];
  byId("threshold").setAttribute("aria-valuetext", thresholds[place]);
  byId("threshold-table").tBodies[0].replaceChildren(
    ...chosen.map((member) => thresholdRow(group.names[member], page.runs[group.runs[member]], thresholds, place)),
  );
}

function thresholdRow(name, run, thresholds, place) {
  return element(
    "tr", {},
    element("th", { scope: "row" }, name),
    numberCell(number(run.curve[place])),
    numberCell(run.text),
    numberCell(String(run.threshold)),
    numberCell(number(run.curve[run.best])),
    numberCell(String(thresholds[run.best])),
  );
}
