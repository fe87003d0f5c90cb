"""A watch of one object: the API server reports each change, and nothing is asked while nothing changes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from meshtrust.cluster.api import Object

# How long the API server keeps a watch open.
_OPEN_SECONDS = 300


class Watch:
    """A watch of one object from a state of it on, until it is closed or the API server ends it.

    Args:
        lines: Opens a stream of events from a resourceVersion on, for so many seconds, and yields its lines.
        read: Reads the object as it is now.
        seen: The object as it was read last.
        pause: Seconds between two looks once there is no stream: without the right to watch, or after an error.
    """

    def __init__(
        self,
        lines: Callable[[str, int], AsyncIterator[str]],
        read: Callable[[], Awaitable[Object]],
        seen: Object,
        pause: float,
    ) -> None:
        self._lines, self._read, self._latest, self._pause = lines, read, seen, pause
        self._changed, self._ended = asyncio.Event(), False

    async def look(self, seconds: float) -> Object:
        """Return the object once it has changed since the last look, or as it is after so many seconds."""
        until = time.monotonic() + seconds
        if not self._ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
            self._changed.clear()
            if not self._ended:
                return self._latest
        await asyncio.sleep(max(0.0, min(self._pause, until - time.monotonic())))
        return await self._read()

    async def follow(self) -> None:
        """Read the events; once there are none any more, `look` asks instead."""
        version = str(self._latest["metadata"].get("resourceVersion") or "")
        try:
            while version:
                async for line in self._lines(version, _OPEN_SECONDS):
                    event: dict[str, Any] = json.loads(line)
                    if event.get("type") not in ("ADDED", "MODIFIED"):
                        return
                    self._latest = event["object"]
                    version = str(self._latest["metadata"]["resourceVersion"])
                    self._changed.set()
        except (httpx.HTTPError, OSError, ValueError, KeyError):
            return
        finally:
            self._ended = True
            self._changed.set()
