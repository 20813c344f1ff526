// The image, its label, and the masks of the chosen runs.
function setUpGallery() {
  if (!byId("gallery")) return;
  byId("gallery-image").addEventListener("change", showTiles);
  byId("gallery-opacity").addEventListener("input", setOpacity);
  byId("gallery-previous").addEventListener("click", () => step(-1));
  byId("gallery-next").addEventListener("click", () => step(1));
}

// Those of the group's task of which a chosen run has a mask; the one that was shown stays.
function showGallery() {
  if (!byId("gallery")) return;
  const group = chosenGroup();
  const places = chosenRuns().map((member) => group.runs[member]);
  const select = byId("gallery-image");
  const before = select.value;
  const offered = page.gallery.images
    .map((image, place) => [image, place])
    .filter(([image]) => image.task === group.task && places.some((run) => run in image.masks));
  select.replaceChildren(...offered.map(([image, place]) => element("option", { value: place }, image.name)));
  if (offered.some(([, place]) => String(place) === before)) select.value = before;
  byId("gallery").hidden = !offered.length;
  if (offered.length) showTiles();
}

function step(by) {
  const select = byId("gallery-image");
  select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
  showTiles();
}

function showTiles() {
  const group = chosenGroup();
  const image = page.gallery.images[Number(byId("gallery-image").value)];
  const members = chosenRuns().filter((member) => group.runs[member] in image.masks);
  byId("gallery-tiles").replaceChildren(
    tile(image, "image"),
    tile(image, "label", image.label),
    ...members.map((member) => tile(image, group.names[member], image.masks[group.runs[member]])),
  );
  byId("gallery-legend").replaceChildren(...page.tasks[group.task].classes.map((name, place) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = page.gallery.colours[group.task][place];
    return element("li", {}, swatch, name);
  }));
  setOpacity();
}

function tile(image, title, mask) {
  const pictures = element("div", { class: "stack" }, element("img", { src: image.picture, alt: `image ${image.name}` }));
  if (mask) pictures.append(element("img", { class: "mask", src: mask, alt: `${title}, over it` }));
  return element("figure", {}, pictures, element("figcaption", {}, title));
}

function setOpacity() {
  const opacity = Number(byId("gallery-opacity").value) / 100;
  for (const mask of byId("gallery-tiles").querySelectorAll(".mask")) mask.style.opacity = opacity;
}
