"""Grids of comparisons: the plan, the executors, and the output folders."""
