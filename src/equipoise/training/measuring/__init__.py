"""What a run measures: losses and figures, probes, cost."""
