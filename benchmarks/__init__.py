"""Benchmarks: what the commands and the checks of a run cost, as ratios within one run, on rehearsal clusters."""
