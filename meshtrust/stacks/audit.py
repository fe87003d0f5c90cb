"""The name of whoever runs this, from variables of a CI system or the operating system; it is not authenticated."""

import getpass
import os
import platform
from collections.abc import Mapping

# The variable that names who started a job, by the system that runs it.
_JOBS = {"GITHUB_ACTOR": "GitHub Actions", "GITLAB_USER_LOGIN": "GitLab CI"}


def name_actor(environment: Mapping[str, str]) -> str:
    """Return who started a CI system's job, or else the user and the machine, as ``user@machine``.

    Args:
        environment: Variables of this process.

    Source: the predefined variables of GitHub Actions and of GitLab CI.
    """
    for variable, system in _JOBS.items():
        if environment.get(variable):
            return f"{environment[variable]} ({system})"
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number that no user has.
        user = f"uid {os.getuid()}"
    return f"{user}@{platform.node()}"
