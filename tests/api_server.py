"""An API server of this machine that holds a few objects, for tests of who reads them."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.http_server import serving
from tests.kubeconfigs import write_kubeconfig


@contextlib.contextmanager
def holding(objects: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """Serve objects, and yield the path of a kubeconfig whose context ``dev`` leads to them.

    Args:
        objects: What there is, by path; all else is not found.
        directory: Directory for the kubeconfig.
    """

    def answer(path: str) -> tuple[int, bytes]:
        path = path.partition("?")[0]
        if path.startswith("/version"):
            return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
        found = objects.get(path)
        return (200, json.dumps(found).encode()) if found else (404, json.dumps({"message": "not found"}).encode())

    with serving(answer) as url:
        yield write_kubeconfig(directory / "config", {}, server=url)
