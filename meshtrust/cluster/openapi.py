"""The OpenAPI document of an API server, which Pulumi's provider for Kubernetes begins with."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from meshtrust.cluster.api import Api, ClusterError, Request

# The form that the provider asks for (client-go ``discovery/discovery_client.go``, OpenAPISchema).
_FORM = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@contextmanager
def preparing_document(api: Api) -> Iterator[None]:
    """Have an API server make its OpenAPI document while something else is done.

    It makes the document when it is asked for it, for the first time after a definition has changed (kube-openapi
    ``pkg/handler/handler.go``), which takes it half a second and more. Nothing comes of it if the API server refuses.

    Args:
        api: Client of the cluster.
    """
    asking = asyncio.create_task(_ask(api))
    try:
        yield
    finally:
        asking.cancel()


async def _ask(api: Api) -> None:
    with suppress(ClusterError):
        await api.send(Request(method="HEAD", path="/openapi/v2", what="OpenAPI document", accept=_FORM))
