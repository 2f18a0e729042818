"""What a report says: evidence from the records, wording, sentences and tables."""
