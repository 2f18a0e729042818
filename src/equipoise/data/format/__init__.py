"""The prepared format: arrays, splits, batches, and the guard against leaks."""
