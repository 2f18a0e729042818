"""Use of a finished run: what its model predicts of new samples, and why."""
