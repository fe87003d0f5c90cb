"""The request for the API server's OpenAPI document, beside the checks: it neither delays nor changes their end."""

import asyncio

import pytest

from meshtrust.cluster.api import ClusterError, ForbiddenError
from meshtrust.cluster.openapi import preparing_document
from tests.fake_cluster import FakeCluster


class Server(FakeCluster):
    """An API server that answers as a test says, and tells what it was asked for."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked, self.left = answer, asyncio.Event(), asyncio.Event()

    async def send(self, request):
        assert (request.method, request.path) == ("HEAD", "/openapi/v2")
        assert "proto-openapi.spec.v2" in request.accept
        self.asked.set()
        try:
            return await self.answer()
        finally:
            self.left.set()


async def never():
    await asyncio.Event().wait()


async def forbidden():
    msg = "The OpenAPI document cannot be read: forbidden."
    raise ForbiddenError(msg, "forbidden")


async def at_once():
    return None


@pytest.mark.parametrize("answer", [at_once, forbidden, never])
def test_the_document_is_asked_for_beside_the_checks_and_not_waited_for(answer):
    async def run():
        api = Server(answer)
        async with asyncio.timeout(30):
            with preparing_document(api):
                await api.asked.wait()
            # It has ended, or been cancelled.
            await api.left.wait()

    asyncio.run(run())


def test_what_fails_beside_it_fails_as_without_it():
    async def run():
        with preparing_document(Server(never)):
            await asyncio.sleep(0)
            raise ClusterError("no")

    with pytest.raises(ClusterError, match=r"^no$"):
        asyncio.run(run())
