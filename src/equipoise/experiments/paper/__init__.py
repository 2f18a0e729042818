"""Tables and figures of Wei et al., ECCV 2024, one file an item that declares what is run; and ablations."""
