"""Rules, grouped by what they check."""
