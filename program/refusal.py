"""How a run ends that cannot go on: with the reason, and nothing that the engine adds to it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pulumi

from meshtrust.cluster.api import ClusterError

# The language host adds nothing of its own to what was told (pulumi sdk/python/cmd/pulumi-language-python/main.go,
# pythonProcessExitedAfterShowingUserActionableMessage).
_TOLD = 32
# The CLI keeps what a killed run was about to make, and warns of it in every run until it is told to forget it (pulumi
# pkg/engine, plan_executor.go; pkg/cmd/pulumi/operations/refresh.go).
PENDING = (
    "If the CLI goes on to warn of pending operations once a run has come to its end: pulumi refresh "
    "--clear-pending-creates"
)


def end(reason: object) -> NoReturn:
    """Tell why a run ends, and end it, from whatever of the program waits for a resource, too.

    Of a `pulumi.RunError` that is raised while something waits for a resource, the engine says that it was not handled.

    Raises:
        SystemExit: Always.
    """
    pulumi.log.error(str(reason))
    sys.exit(_TOLD)


@contextlib.contextmanager
def ending(advice: str = "") -> Iterator[None]:
    """End a run by what a cluster is found to be like.

    Args:
        advice: What is told after that.

    Raises:
        SystemExit: A `ClusterError` was raised.
    """
    try:
        yield
    except ClusterError as error:
        end(f"{error}{advice}")


def telling(resource: pulumi.Resource) -> Callable[[str], None]:
    """Return what shows at a resource, while the run goes on, what is waited for."""

    def tell(waits: str) -> None:
        pulumi.log.info(waits, resource, ephemeral=True)

    return tell
