// The mIoU against the size of the denoiser.
const LABEL_HEIGHT = 17;

function setUpScaling() {
  const select = byId("scaling-task");
  fillSelect(select, page.tasks.map((task) => task.name));
  select.addEventListener("change", drawScaling);
  drawScaling();
}

function drawScaling() {
  const task = Number(byId("scaling-task").value);
  const runs = page.runs.filter((run) => run.task === task && run.parameters !== null && run.miou !== null);
  const methods = METHODS.filter((method) => runs.some((run) => run.method === method));
  byId("scaling-legend").replaceChildren(...methods.map((method) => legendItem(METHODS.indexOf(method), method)));
  const svg = byId("scaling-figure");
  svg.classList.toggle("absent", !runs.length);
  byId("no-sizes").hidden = runs.length > 0;
  if (!runs.length) return;
  const millions = runs.map((run) => run.parameters / 1e6);
  const width = plotWidth(svg);
  const bounds = padded(Math.min(...millions), Math.max(...millions), width);
  const highest = Math.max(...runs.map((run) => run.high ?? run.miou));
  const backbones = [...new Map(runs.map((run) => [run.backbone, run.parameters / 1e6]))].sort((a, b) => a[1] - b[1]);
  const place = logarithmic(bounds, [PLOT.left, width - PLOT.right]);
  const labels = stagger(backbones.map(([text, size]) => ({ text, x: place(size) })), width);
  const top = 8 + LABEL_HEIGHT * (1 + Math.max(...labels.map((label) => label.row)));
  const plot = emptyPlot(svg, {
    top,
    xLabel: "denoiser parameters (M)",
    yBounds: [0, Math.min(100, highest * 1.05)],
    makeX: (range) => logarithmic(bounds, range),
    xTicks: logTicks(...bounds),
  });
  drawLabels(svg, labels, plot);
  methods.forEach((method, place) => {
    const aside = (place - (methods.length - 1) / 2) * Math.min(5, 30 / methods.length);
    drawMethod(svg, runs.filter((run) => run.method === method), aside, plot);
  });
}

// Room for the methods that stand beside the first and the last backbone.
function padded(least, most, width) {
  const pad = Math.max(0.1, (25 * Math.log(most / least)) / (width - 120));
  return [least * Math.exp(-pad), most * Math.exp(pad)];
}

function drawLabels(svg, labels, { box }) {
  for (const { x, middle, row } of labels) {
    svg.append(shape("path", { class: "lead", d: `M${middle} ${box.top - 6 - LABEL_HEIGHT * row}L${x} ${box.top}V${box.bottom}` }));
  }
  for (const { text, middle, row } of labels) {
    svg.append(shape("text", { class: "label", x: middle, y: box.top - 8 - LABEL_HEIGHT * row, "text-anchor": "middle" }, text));
  }
}

function drawMethod(svg, runs, aside, { x, y }) {
  const style = METHODS.indexOf(runs[0].method);
  const sorted = [...runs].sort((first, second) => first.parameters - second.parameters);
  const points = sorted.map((run) => [x(run.parameters / 1e6) + aside, y(run.miou)]);
  const joined = points.filter((_, place) => sorted[place].is_on_line);
  svg.append(shape("path", { d: polyline(joined), ...lineStyle(style), opacity: 0.55 }));
  sorted.forEach((run, place) => {
    const [right, down] = points[place];
    const group = shape("g", {}, shape("title", {}, `${run.method} on ${run.backbone}: ${run.text}`));
    if (run.low !== null) {
      group.append(shape("path", { class: `line colour-${style % STYLES}`, d: `M${right} ${y(run.low)}V${y(run.high)}` }));
    }
    group.append(mark(style, right, down));
    svg.append(group);
  });
}
