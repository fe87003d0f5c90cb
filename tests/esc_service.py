"""The part of Pulumi Cloud that opens ESC environments, for the real CLI: it knows one environment."""

import contextlib
import json
from collections.abc import Iterator, Mapping

from tests.http_server import serving

ENVIRONMENT = "acme/mesh/prod"


@contextlib.contextmanager
def esc_service(*, files: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Serve an environment, and yield the variables by which the CLI finds the service.

    Args:
        files: The environment's files, all of them secrets.
        variables: The environment's variables.

    Source: pulumi/esc ``cmd/esc/cli/client/client.go``.
    """
    environment = {
        "properties": {
            "files": {"value": {name: {"value": content, "secret": True} for name, content in files.items()}},
            "environmentVariables": {"value": {name: {"value": value} for name, value in variables.items()}},
        }
    }
    place = f"/api/esc/environments/{ENVIRONMENT}"
    answers = {
        "/api/user": {"githubLogin": "me", "name": "me", "organizations": [{"githubLogin": "acme", "name": "acme"}]},
        "/api/user/organizations/default": {"gitHubLogin": "acme"},
        f"{place}/open": {"id": "opened"},
        f"{place}/open/opened": environment,
    }

    def answer(path: str) -> tuple[int, bytes]:
        found = answers.get(path.partition("?")[0])
        missing = {"code": 404, "message": "Not Found: environment not found"}
        return (404, json.dumps(missing).encode()) if found is None else (200, json.dumps(found).encode())

    with serving(answer) as url:
        yield {"PULUMI_API": url, "PULUMI_ACCESS_TOKEN": "of-the-test"}
