"""What each modality contributes to a prediction."""
