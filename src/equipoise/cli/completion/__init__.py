"""Completion in shells: the script, and the commands that print and install it."""
