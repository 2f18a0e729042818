"""Losses and figures, probes and cost of a run."""
