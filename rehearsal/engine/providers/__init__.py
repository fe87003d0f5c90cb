"""The providers that the engine serves itself: tls, random and kubernetes (with helm.v3.Release)."""

from __future__ import annotations

from rehearsal.engine.providers.base import CheckError, Diff, Operation, Provider

__all__ = ["CheckError", "Diff", "Operation", "Provider"]
