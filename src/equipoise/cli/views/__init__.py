"""What the commands of many runs show: tables, and progress on a terminal."""
