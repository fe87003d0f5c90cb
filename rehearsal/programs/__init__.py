"""Programs that the rehearsal builds from Go modules, once for every checkout, and keeps in a cache."""

from rehearsal.programs.cache import cache_directory
from rehearsal.programs.errors import BuildError
from rehearsal.programs.go_program import GoProgram, ensure_all

__all__ = ["BuildError", "GoProgram", "cache_directory", "ensure_all"]
