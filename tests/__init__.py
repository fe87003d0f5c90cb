"""Tests: unit (recorded plain data), engine (the embedded engine), rehearsal (a real API server), e2e (real pulumi)."""
