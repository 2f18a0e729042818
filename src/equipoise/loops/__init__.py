"""Methods in user-defined loops and in other trainers; a trainer's module needs the extra of its name."""
