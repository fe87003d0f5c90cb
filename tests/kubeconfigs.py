"""Kubeconfigs of clusters that are made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_kubeconfig(
    path: Path, user: Mapping[str, Any], *, name: str = "dev", server: str = "https://127.0.0.1:1", **cluster: str
) -> str:
    """Write one whose context, cluster and user have the same name, and return its path; nobody is at the server."""
    config = {
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": server, **cluster}}],
        "users": [{"name": name, "user": user}],
        "current-context": name,
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def command_for_credentials(script: str) -> dict[str, Any]:
    """Return a user whose credentials a script of the shell is asked for."""
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
    return {"exec": {**command, "interactiveMode": "Never"}}
