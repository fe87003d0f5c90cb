"""Benchmarks: what the commands and the guard cost, as ratios within one run, on rehearsal clusters."""
