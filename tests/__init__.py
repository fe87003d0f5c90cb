"""Tests: unit (plain data and Pulumi's mocks), providers (plugins of the rehearsal), rehearsal (a real API server)."""
