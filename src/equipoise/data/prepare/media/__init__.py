"""Media files to arrays: images, sound, video, optical flow and spectrograms."""
