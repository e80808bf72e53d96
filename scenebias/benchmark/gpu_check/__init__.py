"""What whoever has a GPU runs once: does everything work on it, and how fast."""
