"""Pulumi's own CLI as the rehearsal runs it: built from its Go module, with a language host and plugins beside it."""
