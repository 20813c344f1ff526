// Starts everything, and draws figures anew where their width changes.
function setUpProvenance() {
  byId("provenance").append(
    ...page.runs.map((run) => {
      const title = `${run.method} on ${run.backbone}, ${page.tasks[run.task].name} (${run.id})`;
      const details = element("details", { id: `run-${run.id}` }, element("summary", {}, title));
      details.addEventListener("toggle", () => {
        if (details.children.length > 1) return;
        const text = JSON.stringify(page.provenance[run.id], null, 2);
        details.append(element("pre", { class: "scroll", tabindex: "0" }, text));
      });
      return details;
    }),
  );
}

function openLinked() {
  const linked = byId(location.hash.slice(1));
  if (linked?.tagName !== "DETAILS") return;
  byId("provenance").open = true;
  linked.open = true;
  linked.querySelector("summary").focus();
}

setUpLeaderboard();
setUpScaling();
setUpDetails();
setUpProvenance();
addEventListener("hashchange", openLinked);
openLinked();
let drawnWidth = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth === drawnWidth) return;
  drawnWidth = document.body.clientWidth;
  drawScaling();
  showThresholds(chosenGroup(), chosenRuns());
});
