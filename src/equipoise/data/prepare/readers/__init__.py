"""Readers that turn the files of a clip into one modality."""
