"""Examinations of a run, a model, or features in a file."""
