"""Ends of a run that cannot go on: the reason is shown, without a traceback or words of the engine."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pulumi

from meshtrust.cluster.api import ClusterError
from meshtrust.linkerd.webhooks.authority import IllegalAuthorityStepError
from meshtrust.pki.identity_suffix import IllegalRenameError
from meshtrust.pki.issuer_mode import IllegalMoveError
from meshtrust.rotation.steps import IllegalStepError

# The language host adds no message of its own to one that was shown (pulumi
# sdk/python/cmd/pulumi-language-python/main.go, pythonProcessExitedAfterShowingUserActionableMessage).
_SHOWN = 32
# The CLI keeps what a killed run was about to make, and warns of it in every run until a command makes it forget it
# (pulumi pkg/engine, plan_executor.go; pkg/cmd/pulumi/operations/refresh.go).
PENDING = (
    "If the CLI goes on to warn of pending operations once a run has come to its end: pulumi refresh "
    "--clear-pending-creates"
)


def end(reason: object) -> NoReturn:
    """Report why a run ends, and end it; also from code that waits for a resource.

    Of a `pulumi.RunError` that is raised while something waits for a resource, the engine says that it was not handled.

    Raises:
        SystemExit: Always.
    """
    pulumi.log.error(str(reason))
    sys.exit(_SHOWN)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Refuse a run that breaks a rule or does not fit its cluster, in words that the engine shows without a traceback.

    Raises:
        pulumi.RunError: A rule's error, or a `ClusterError`, was raised.
    """
    try:
        yield
    except IllegalStepError as error:
        msg = f"meshtrust:anchors and meshtrust:signer cannot be deployed: {error}.\nNothing was changed."
        raise pulumi.RunError(msg) from None
    except (ClusterError, IllegalRenameError, IllegalMoveError, IllegalAuthorityStepError) as error:
        msg = f"{error}\nNothing was changed."
        raise pulumi.RunError(msg) from None


@contextlib.contextmanager
def ending(advice: str = "") -> Iterator[None]:
    """End a run by what a cluster is found to be like.

    Args:
        advice: Text that follows the message.

    Raises:
        SystemExit: A `ClusterError` was raised.
    """
    try:
        yield
    except ClusterError as error:
        end(f"{error}{advice}")


def notify_at(resource: pulumi.Resource) -> Callable[[str], None]:
    """Return a function that shows at a resource what the run waits for."""

    def notify(waits: str) -> None:
        pulumi.log.info(waits, resource, ephemeral=True)

    return notify
