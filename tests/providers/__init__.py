"""Tests of the embedded engine: tiny real programs, run through its command line in a process of its own."""
