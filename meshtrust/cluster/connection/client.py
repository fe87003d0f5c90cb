"""Connecting to the API server of a cluster."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from meshtrust.cluster.api import Api, ClusterError
from meshtrust.cluster.backoff import Notify, silent
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.kubeconfig import KubeconfigError

# More than an answer takes, and little enough that a root made here has begun before anyone is shown it.
_CLOCK_TOLERANCE = timedelta(minutes=1)


async def open_cluster(access: ClusterAccess, notify: Notify = silent) -> Api:
    """Return a client of a cluster.

    Args:
        access: The way to it.
        notify: Takes a warning, if anyone could answer in its place.

    Raises:
        ClusterError: The context does not exist; the API server does not answer or refuses the credentials; or its
            clock and this machine's differ.
    """
    try:
        found = access.read()
    except KubeconfigError as error:
        raise ClusterError(str(error)) from None
    # An offline preview never needs it, and it takes longer to import than all else here.
    from meshtrust.cluster.connection.session import open_client  # noqa: PLC0415

    client, date = await open_client(found, access)
    check_clock(date, access.title)
    if not found.verifies_server:
        notify(
            f"The API server of {access.title} is not verified: the kubeconfig has insecure-skip-tls-verify, or a "
            "server with http://. Whoever is on the way there can answer in its place, and reads the credentials and "
            "each key that is written. Set certificate-authority-data in its place."
        )
    return client


def check_clock(date: str, title: str) -> None:
    """Make sure that this machine and the API server agree on the time.

    Roots begin and end by this machine's clock, and what has ended may be replaced without a look at who trusts it.

    Args:
        date: The Date header of an answer; empty if it had none.
        title: Description of the way to the cluster.

    Raises:
        ClusterError: They do not.
    """
    if not date:
        return
    apart = datetime.now(UTC) - parsedate_to_datetime(date)
    if abs(apart) > _CLOCK_TOLERANCE:
        minutes = round(abs(apart).total_seconds() / 60)
        direction = "ahead of" if apart > timedelta(0) else "behind"
        msg = (
            f"This machine's clock is {minutes} minutes {direction} that of the API server of {title}. "
            "Certificates would begin and end at the wrong time, and be judged by it. Set the clock, and run again."
        )
        raise ClusterError(msg)
