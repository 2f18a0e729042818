"""Comparisons of methods over runs and datasets, and the examination of what a run has learnt."""
