"""Tuning: methods on equal numbers of trials, judged on validation."""
