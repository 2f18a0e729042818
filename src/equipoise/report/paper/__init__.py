"""The paper's tables and figures, drawn from what was run for them."""
