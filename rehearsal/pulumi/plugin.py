"""The plugins of the rehearsal: a script, started with `language` or with a provider's name and version."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType


def main(kind: str, *arguments: str) -> None:
    """Serve one plugin until the engine ends; the engine's address is the last argument."""
    # Started as a script, and so with its own directory in the place of the repository's.
    sys.path[0] = str(Path(__file__).parents[2])
    _leave_out_the_sdk()
    if kind == "language":
        from rehearsal.pulumi import language_host  # noqa: PLC0415 - a plugin loads what it serves

        language_host.serve(engine=arguments[-1])
        return
    from rehearsal.providers import server  # noqa: PLC0415

    server.serve(kind, version=arguments[0], engine=arguments[-1])


def _leave_out_the_sdk() -> None:
    """Let `pulumi.runtime.proto`, all that a plugin needs of the SDK, be loaded without the packages around it.

    Loading those takes most of a plugin's start, and each run starts four.
    """
    for name, path in (("pulumi", sys.path), ("pulumi.runtime", None)):
        parent = sys.modules.get("pulumi")
        spec = importlib.machinery.PathFinder.find_spec(name, path or parent.__path__)  # type: ignore[union-attr]
        package = ModuleType(name)
        package.__path__ = spec.submodule_search_locations  # type: ignore[union-attr, assignment]
        sys.modules[name] = package


if __name__ == "__main__":
    main(*sys.argv[1:])
