"""The commands, one per file; `meshtrust.cli` puts them together."""
