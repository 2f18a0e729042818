"""A run in several processes: starting them, meeting, and noticing that one is lost."""
