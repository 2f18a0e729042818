"""The model of a finished run in formats of others, checked against it, or in a folder to pass on."""
