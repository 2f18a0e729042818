"""Models whose encoders exchange signals before the fusion."""
