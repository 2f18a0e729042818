"""Comparisons: fairness, statistics, and the ranking over datasets."""
