"""A watch of one object: changes arrive by themselves, and what cannot be watched is asked for."""

import asyncio
import json

import httpx

from meshtrust.cluster.connection.watch import Watch


def state(version):
    return {"metadata": {"name": "web", "resourceVersion": str(version)}}


class Server:
    """A server whose streams a test gives: each a list of lines, or an error that ends it."""

    def __init__(self, *streams, newest=99):
        self.streams, self.newest = list(streams), newest
        self.opened, self.reads = [], 0

    async def lines(self, version, seconds):
        assert seconds > 0
        self.opened.append(version)
        for line in self.streams.pop(0) if self.streams else [asyncio.Event()]:
            if isinstance(line, Exception):
                raise line
            if isinstance(line, asyncio.Event):
                await line.wait()
            else:
                yield line
            await asyncio.sleep(0)

    async def read(self):
        self.reads += 1
        return state(self.newest)


def event(version, kind="MODIFIED"):
    return json.dumps({"type": kind, "object": state(version)})


def watched(server, *looks):
    """The versions that looks of so many seconds see."""

    async def run():
        watch = Watch(server.lines, server.read, state(1), pause=0.01)
        following = asyncio.create_task(watch.follow())
        seen = [(await watch.look(seconds))["metadata"]["resourceVersion"] for seconds in looks]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return seen

    return asyncio.run(run())


def test_a_change_is_seen_when_it_is_reported_and_nothing_is_asked():
    server = Server([event(2), asyncio.Event()])
    assert watched(server, 60) == ["2"]
    assert server.opened == ["1"], "it begins where it was read"
    assert server.reads == 0


def test_a_look_ends_after_its_time_with_the_object_as_it_was_when_nothing_changes():
    server = Server([asyncio.Event()])
    assert watched(server, 0.01, 0.01) == ["1", "1"]
    assert server.reads == 0


def test_a_stream_that_the_server_ends_goes_on_where_it_was():
    gate = asyncio.Event()
    server = Server([event(2)], [gate])

    async def run():
        watch = Watch(server.lines, server.read, state(1), pause=0.01)
        following = asyncio.create_task(watch.follow())
        while len(server.opened) < 2:
            await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert server.opened == ["1", "2"]


def test_an_object_that_cannot_be_watched_is_asked_for():
    forbidden = httpx.HTTPStatusError("403", request=httpx.Request("GET", "http://x"), response=httpx.Response(403))
    for broken in ([forbidden], [httpx.ReadError("lost")], [event(2, "ERROR")], [event(2, "DELETED")], ["no JSON"]):
        server = Server(broken)
        assert watched(server, 60, 60) == ["99", "99"]
        assert server.reads == 2
