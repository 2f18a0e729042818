"""Charts: one function a chart, each a Vega-Altair chart with its words."""
