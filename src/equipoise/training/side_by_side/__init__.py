"""Several runs of one small model, whose steps are taken together."""
