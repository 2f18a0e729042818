"""The verdict on a modality, in words."""
