"""What goes to a user's trackers: numbers under names, pictures, and loggers that never end a training."""
