"""How the sections of a stack's configuration are read and checked; `settings.py` puts them together."""
