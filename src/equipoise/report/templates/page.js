(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var fine = matchMedia("(pointer: fine)").matches;
  // Nothing here may reach for the network: no logo, no upload, no fonts of formulas, no maps.
  var config = {
    responsive: true,
    displayModeBar: false,
    displaylogo: false,
    showSendToCloud: false,
    showEditInChartStudio: false,
    plotlyServerURL: "",
    topojsonURL: "",
    doubleClick: "reset+autosize"
  };
  window.PlotlyConfig = { MathJaxConfig: "local" };

  function color(name) {
    var parts = name.split("/");
    var value = getComputedStyle(document.documentElement).getPropertyValue(parts[0]).trim();
    if (parts.length === 1) return value;
    var rgb = [1, 3, 5].map(function (at) { return parseInt(value.substr(at, 2), 16); });
    return "rgba(" + rgb.join(",") + "," + parts[1] + ")";
  }

  // Colours are names of CSS variables; nothing but a colour is looked up, whatever a label says.
  function themed(value, key) {
    if (Array.isArray(value)) return value.map(function (entry) { return themed(entry, key); });
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (name) { copy[name] = themed(value[name], name); });
      return copy;
    }
    var isColor = /color(scale)?$/.test(key) && typeof value === "string" && value.indexOf("--") === 0;
    return isColor ? color(value) : value;
  }

  var drawn = {};

  function draw(id) {
    drawn[id] = true;
    var figure = themed(figures[id], "");
    figure.layout.dragmode = fine ? "zoom" : false;
    Plotly.react(id, figure.data, figure.layout, config);
  }

  // What lies in a closed fold has no width yet, and is drawn when it opens.
  function visible(id) {
    var fold = document.getElementById(id).closest("details.fold");
    return !fold || fold.open;
  }

  function drawAll() { Object.keys(figures).filter(visible).forEach(draw); }

  // One chart a task: the page answers from the start, and the first charts are there at once.
  function drawInTurn(ids) {
    if (!ids.length) {
      document.documentElement.setAttribute("data-charts", "drawn");
      return;
    }
    if (!drawn[ids[0]]) draw(ids[0]);
    setTimeout(function () { drawInTurn(ids.slice(1)); });
  }

  function toggle(button) {
    var shown = button.getAttribute("aria-pressed") !== "true";
    var id = button.getAttribute("data-panel");
    button.setAttribute("aria-pressed", String(shown));
    button.getAttribute("data-traces").split(",").forEach(function (at) {
      figures[id].data[Number(at)].visible = shown;
    });
    draw(id);
  }

  document.querySelectorAll(".legend button").forEach(function (button) {
    button.addEventListener("click", function () { toggle(button); });
  });

  // Paper is white, and narrower than most windows.
  function printing(on) {
    document.documentElement.toggleAttribute("data-print", on);
    document.querySelectorAll("details.fold").forEach(function (fold) {
      if (on) fold.setAttribute("data-was", fold.open ? "open" : "");
      fold.open = on || fold.getAttribute("data-was") === "open";
    });
    drawAll();
    Object.keys(figures).filter(visible).forEach(function (id) { Plotly.Plots.resize(id); });
  }

  document.querySelectorAll("details.fold").forEach(function (fold) {
    fold.addEventListener("toggle", function () {
      if (!fold.open) return;
      fold.querySelectorAll(".plot").forEach(function (plot) { if (!drawn[plot.id]) draw(plot.id); });
    });
  });

  window.addEventListener("beforeprint", function () { printing(true); });
  window.addEventListener("afterprint", function () { printing(false); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawInTurn(Object.keys(figures).filter(visible));
})();
