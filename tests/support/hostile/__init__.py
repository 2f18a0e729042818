"""Files that are made to do harm: each is written by a few lines, and opened as a user would open it."""
