"""The contract of a method: its hooks, what it sees of a run, what it needs, how several combine."""
