"""Measures of separability: one small interface, and the clustering and prediction they rest on."""
