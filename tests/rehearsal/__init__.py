"""Tests that need a real API server: the rehearsal cluster, the program on it, and the stand-ins for Linkerd."""
