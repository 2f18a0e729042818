"""Intermediate fusion: models whose encoders exchange signals before the late fusion."""
