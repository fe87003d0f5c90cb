"""Subjects of the rules: each module finds one kind among what was read, and checks it by its rules."""
