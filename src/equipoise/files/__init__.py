"""Files: written whole, read with suspicion; and what is in them, made safe to print."""
