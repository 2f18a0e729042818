"""Features: captured from a model, read from batches, drawn in the plane."""
