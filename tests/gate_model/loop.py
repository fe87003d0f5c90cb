"""An event loop whose time is the model's: a look that waits takes no real time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from unittest import mock

import time_machine

from tests.gate_model.cluster import Cluster

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """A selector that passes the time until the next timer by the model's clock."""

    passes: Callable[[float], None] = staticmethod(lambda _: None)

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready, as the base does; without a timer only another thread can make something ready."""
        if timeout is None:
            return super().select(None)
        if timeout > 0:
            self.passes(timeout)
        return super().select(0)


class ModelLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._passing = _Selector()
        super().__init__(self._passing)

    def time(self) -> float:
        """Return the seconds that have passed in the model."""
        return self._seconds

    def run_in(self, cluster: Cluster, work: Coroutine[Any, Any, T]) -> T:
        """Return what comes of some work in a cluster, which goes on while the work waits."""
        with time_machine.travel(cluster.now, tick=False) as traveller, mock.patch("time.monotonic", self.time):

            def passes(seconds: float) -> None:
                self._seconds += seconds
                cluster.advance(timedelta(seconds=seconds))
                traveller.move_to(cluster.now, tick=False)

            self._passing.passes = passes
            return self.run_until_complete(work)
