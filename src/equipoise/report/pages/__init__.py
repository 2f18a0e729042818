"""Pages: what a report of a comparison, a run or a diagnosis holds, from top to bottom."""
