"""Proxies that open tunnels, as the `proxy-url` of a kubeconfig names one: by HTTP (CONNECT) and by SOCKS 5."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Literal


class _Tunnel(socketserver.StreamRequestHandler):
    opened = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def read_target(self) -> str:
        _, target, _ = self.rfile.readline().decode().split(" ", 2)
        while self.rfile.readline().strip():
            pass
        return target

    def handle(self) -> None:
        target = self.read_target()
        host, _, port = target.rpartition(":")
        self.server.tunnels.append(target)  # type: ignore[attr-defined]
        with socket.create_connection((host.strip("[]"), int(port))) as upstream:
            self.connection.sendall(self.opened)
            back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
            back.start()
            _pump(self.connection, upstream)
            back.join()


class _SocksTunnel(_Tunnel):
    """A tunnel without a login, to an address of IPv4 or a name (RFC 1928)."""

    opened = b"\x05\x00\x00\x01" + bytes(6)

    def read_target(self) -> str:
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.connection.sendall(b"\x05\x00")
        *_, kind = self.rfile.read(4)
        is_address = kind == 1
        host = self.rfile.read(4 if is_address else self.rfile.read(1)[0])
        port = int.from_bytes(self.rfile.read(2))
        return f"{socket.inet_ntoa(host) if is_address else host.decode()}:{port}"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxying(scheme: Literal["http", "socks5"] = "http") -> Iterator[tuple[str, list[str]]]:
    """Serve in a thread; yield the proxy's URL and the list of where it was asked to lead."""
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    handler = _Tunnel if scheme == "http" else _SocksTunnel
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        server.tunnels = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}", server.tunnels  # type: ignore[attr-defined]
        server.shutdown()
