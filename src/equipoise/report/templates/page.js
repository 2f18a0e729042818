const figures = JSON.parse(document.getElementById("figures").textContent);
const root = document.documentElement;
const views = {};
// `ast` interprets expressions instead of compiling them: the page's policy allows no eval.
const options = {
  mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false,
  tooltip: { disableDefaultStyle: true }
};

async function draw(id) {
  views[id] = (await vegaEmbed(document.getElementById(id), figures[id], options)).view;
}

// A legend's buttons show and hide the series of their drawing.
document.querySelectorAll(".legend button").forEach(button => button.addEventListener("click", () => {
  const shown = button.getAttribute("aria-pressed") !== "true";
  const view = views[button.dataset.panel];
  if (!view) return;
  button.setAttribute("aria-pressed", String(shown));
  const others = view.signal("shown").filter(name => name !== button.dataset.series);
  view.signal("shown", shown ? others.concat(button.dataset.series) : others).runAsync();
}));

// Paper is white, and narrower than most windows. The browser does not wait, so drawings are fitted at once.
function printing(on) {
  root.toggleAttribute("data-print", on);
  document.querySelectorAll("details.fold").forEach(fold => {
    if (on) fold.setAttribute("data-was", fold.open ? "open" : "");
    fold.open = on || fold.getAttribute("data-was") === "open";
  });
  for (const [id, view] of Object.entries(views)) {
    view.signal("width", document.getElementById(id).clientWidth).run();
  }
}

window.addEventListener("beforeprint", () => printing(true));
window.addEventListener("afterprint", () => printing(false));

// Each chart is drawn in its own task, so that the page stays responsive and the first charts appear early.
for (const id of Object.keys(figures)) {
  await draw(id);
  await new Promise(resolve => setTimeout(resolve));
}
root.setAttribute("data-charts", "drawn");
