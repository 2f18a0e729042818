"""Features: checked, captured from a model, and projected to two dimensions."""
