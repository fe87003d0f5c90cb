"""Linkerd's webhooks: their certificate authority, what the API server trusts, and whether the two fit."""
