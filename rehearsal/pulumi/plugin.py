"""The plugins of the rehearsal: a script, started with `language` or with a provider's name and version."""

import sys
from pathlib import Path


def main(kind: str, *arguments: str) -> None:
    """Serve one plugin until the engine ends; the engine's address is the last argument."""
    # Started as a script, and so with its own directory in the place of the repository's.
    sys.path[0] = str(Path(__file__).parents[2])
    if kind == "language":
        from rehearsal.pulumi import language_host  # noqa: PLC0415 - a plugin loads what it serves

        language_host.serve(engine=arguments[-1])
        return
    from rehearsal.providers import server  # noqa: PLC0415

    server.serve(server.load(kind), version=arguments[0], engine=arguments[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
