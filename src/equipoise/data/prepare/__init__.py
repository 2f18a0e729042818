"""From downloaded files to a prepared dataset: what is to be read, and the engine that reads it."""
