"""Fusions: one file each, one feature vector per modality to joint logits."""
