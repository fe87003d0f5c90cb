"""A TCP proxy that drops, delays and resets connections at random, for tests of who has to live with that."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_CHUNK = 16384


@dataclass
class LossyProxy:
    """A proxy on a port of this machine.

    Attributes:
        port: Its port.
        upstream: Port of this machine that it leads to.
        lost: Share of the chunks of data, in either direction, at which a connection ends.
        seconds: Longest delay of a chunk.
        losses: How many connections it has ended so far.
    """

    port: int
    upstream: int
    lost: float
    seconds: float
    losses: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(20261128))  # noqa: S311 no secret

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                client.close()
                continue
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._random.random() < self.lost:
                    self.losses += 1
                    # A part of it may have got through; and the end is an orderly one, or a reset.
                    target.sendall(data[: self._random.randrange(len(data))])
                    if self._random.random() < 0.5:
                        for end in (source, target):
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                time.sleep(self._random.random() * self.seconds)
                target.sendall(data)
        for end in (source, target):
            # A close alone would wait for the other thread, which reads from it.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def lossy_proxy(upstream: int, *, lost: float, seconds: float = 0.0) -> Iterator[LossyProxy]:
    """Run a proxy in threads; its fields may be changed meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = LossyProxy(port=listener.getsockname()[1], upstream=upstream, lost=lost, seconds=seconds)
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
