"""The tables and figures of Wei et al., ECCV 2024: one file an item, which declares what is run."""
