"""Comparisons: the plan, the executors, fairness and statistics."""
