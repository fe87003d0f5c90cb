"""What goes wrong on purpose, and what a user sees of it."""
