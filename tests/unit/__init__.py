"""Tests of what the program declares and decides, without an engine and without a cluster."""
