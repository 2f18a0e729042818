"""The run record: what was done, event by event, and what came out."""
