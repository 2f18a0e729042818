"""The training loop, its settings, and the record of a run."""
