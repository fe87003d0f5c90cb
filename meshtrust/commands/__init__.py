"""The commands, one per file; `meshtrust.commands.cli` puts them together. May import every package."""
