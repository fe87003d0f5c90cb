"""Faults that are made on purpose, and what a user sees of them."""
