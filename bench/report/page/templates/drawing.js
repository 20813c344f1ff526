// Axes, lines and marks of the figures.
const FONT = 12;
const STYLES = 8;
const PLOT = { left: 46, right: 16 };
const DASHES = ["", "6 3", "2 3"];
const measure = document.createElement("canvas").getContext("2d");
measure.font = `${FONT}px system-ui, sans-serif`;

function textWidth(text) {
  return measure.measureText(text).width;
}

// Colour, dashes and form of mark together tell up to 40 lines apart, also without colour.
function lineStyle(place) {
  return { class: `line colour-${place % STYLES}`, "stroke-dasharray": DASHES[Math.floor(place / STYLES) % 3] };
}

function mark(place, x, y) {
  const size = 4;
  const corners = [
    null,
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.3], [1.2, 1], [-1.2, 1]],
    [[0, -1.5], [1.2, 0], [0, 1.5], [-1.2, 0]],
    [[0, 1.3], [1.2, -1], [-1.2, -1]],
  ][place % 5];
  const style = { class: `mark colour-${place % STYLES}` };
  if (!corners) return shape("circle", { cx: x, cy: y, r: size, ...style });
  const points = corners.map(([right, down]) => `${x + size * right},${y + size * down}`).join(" ");
  return shape("polygon", { points, ...style });
}

function legendItem(place, name) {
  const picture = shape("svg", { width: 34, height: 14, "aria-hidden": "true" });
  picture.append(shape("path", { d: "M2 7H32", ...lineStyle(place) }), mark(place, 17, 7));
  return element("li", {}, picture, name);
}

function polyline(points) {
  // A missing number interrupts the line.
  let pen = "M";
  const steps = points.map(([x, y]) => {
    if (y === null) {
      pen = "M";
      return "";
    }
    const step = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    return step;
  });
  return steps.join("");
}

function roundTicks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, place) => Number(((first + place) * step).toPrecision(6)));
}

function logTicks(low, high) {
  const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 6, 8], Array.from({ length: 90 }, (_, n) => 1 + n / 10)];
  const powers = Array.from({ length: 14 }, (_, place) => 10 ** (place - 2));
  const within = choices.map((factors) =>
    powers.flatMap((power) => factors.map((factor) => Number((factor * power).toPrecision(3))))
      .filter((tick) => tick >= low && tick <= high));
  return within.find((ticks) => ticks.length >= 3) || within.at(-1);
}

function linear(from, to) {
  const scale = (value) => to[0] + ((value - from[0]) / (from[1] - from[0] || 1)) * (to[1] - to[0]);
  scale.bounds = from;
  return scale;
}

function logarithmic(from, to) {
  const scale = linear(from.map(Math.log), to);
  return (value) => scale(Math.log(value));
}

function plotWidth(svg) {
  return Math.max(280, svg.parentElement.clientWidth);
}

// An empty figure as wide as its place, with axes; `top` is kept free above the plot.
function emptyPlot(svg, { top = 12, xLabel, yBounds, makeX, xTicks, xText = String }) {
  const width = plotWidth(svg);
  const height = Math.min(380, Math.max(260, width * 0.5)) + top;
  const box = { left: PLOT.left, right: width - PLOT.right, top, bottom: height - 44 };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren();
  const x = makeX([box.left, box.right]);
  const y = linear(yBounds, [box.bottom, box.top]);
  for (const tick of roundTicks(...yBounds, 6)) {
    svg.append(
      shape("path", { class: "grid", d: `M${box.left} ${y(tick)}H${box.right}` }),
      shape("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
    );
  }
  let free = -Infinity;
  for (const tick of xTicks) {
    const text = xText(tick);
    const half = textWidth(text) / 2;
    svg.append(shape("path", { class: "axis", d: `M${x(tick)} ${box.bottom}v5` }));
    if (x(tick) - half < free) continue;
    free = x(tick) + half + 6;
    svg.append(shape("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, text));
  }
  svg.append(
    shape("path", { class: "axis", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }),
    shape("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    shape("text", { x: -(box.top + box.bottom) / 2, y: 12, "text-anchor": "middle", transform: "rotate(-90)" }, "mIoU (%)"),
  );
  return { x, y, box, width };
}

// Rows for labels above the plot: each goes into the lowest row where it meets no other.
function stagger(labels, width) {
  const ends = [];
  return labels.map(({ text, x }) => {
    const half = textWidth(text) / 2 + 2;
    const middle = Math.min(Math.max(x, half), width - half);
    let row = ends.findIndex((end) => middle - half > end + 6);
    if (row < 0) row = ends.push(0) - 1;
    ends[row] = middle + half;
    return { text, x, middle, row };
  });
}
