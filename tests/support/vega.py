"""Helpers to read a Vega-Lite specification of a layered chart."""

import json
import re


def rows(spec, *fields):
    """The rows of the first layer whose data have all these fields."""
    for layer in layers(spec, *fields):
        return data(spec, layer)
    return []


def data(spec, layer):
    """The rows of a layer; layers with equal rows share them."""
    return spec["datasets"][(layer.get("data") or spec["data"])["name"]]


def layers(spec, *fields):
    """The layers whose data have all these fields in every row."""
    found = []
    for layer in spec["layer"]:
        held = data(spec, layer)
        if held and all(set(fields) <= set(row) for row in held):
            found.append(layer)
    return found


def drawn(chart, panel=0):
    """The specification of a panel."""
    return chart.panels[panel].drawing.to_dict()


def column(spec, *fields):
    """The values of the first of these fields; the others choose the layer."""
    return [row[fields[0]] for row in rows(spec, *fields)]


def domain(spec, channel):
    """The range of an axis."""
    found = [
        layer["encoding"][channel]["scale"]["domain"] for layer in spec["layer"] if _ranged(layer, channel)
    ]
    return found[0]


def _ranged(layer, channel):
    return "domain" in (layer["encoding"].get(channel, {}).get("scale") or {})


def variables(text):
    """The colours of the page's style sheet that occur in a text."""
    return set(re.findall(r"var\((--[a-z0-9]+)\)", text if isinstance(text, str) else json.dumps(text)))
