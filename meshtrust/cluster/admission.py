"""Admission of objects: whether a webhook has refused one, or was not there to answer."""

import re

from meshtrust.cluster.api import ClusterError

# The API server's words for a webhook that was called and did not answer (apiserver
# ``pkg/admission/plugin/webhook/errors``), and for a question that took too long; and for one that said no.
_NO_ANSWER = re.compile("failed calling webhook|[Tt]imeout|deadline exceeded")
_DENIED = re.compile("admission webhook .* denied the request")


def is_unanswered(error: ClusterError) -> bool:
    """Whether the API server has refused an object because a webhook did not answer in time."""
    said = error.server_message
    return bool(_NO_ANSWER.search(said)) and not _DENIED.search(said)
