// Elements are made of names and texts; no text is ever read as HTML.
const page = JSON.parse(document.getElementById("page-data").textContent);
const SVG = document.querySelector("svg").namespaceURI;

const METHODS = [...new Set(page.runs.map((run) => run.method))];

function byId(id) {
  return document.getElementById(id);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function fillSelect(select, names) {
  select.replaceChildren(...names.map((name, place) => element("option", { value: place }, name)));
}

function number(value, digits = 1) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return (value < 0 && text !== "0.0" ? "−" : "+") + text;
}

function numberCell(text, attributes = {}) {
  return element("td", { class: "number", ...attributes }, text);
}

function headings(names) {
  return names.map((name) => element("th", { scope: "col" }, name));
}
