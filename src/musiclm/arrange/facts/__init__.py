"""What is true of a window of a score, measured from its notes, and of how it was rendered."""
