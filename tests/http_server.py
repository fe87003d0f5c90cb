"""A web server of this machine, for tests of who asks one."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serving(answer: Callable[[str], tuple[int, bytes]], seen: list[dict[str, str]] | None = None) -> Iterator[str]:
    """Serve in a thread, and yield the server's URL.

    Args:
        answer: Returns the status and the body that a path is answered with.
        seen: Gets the headers of each request, by their names in lower case.
        answer: Returns the status and the body that a path is answered with, whatever the method is; the body of a
            redirect is where it leads.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append({key.lower(): value for key, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.path)
            # Who asks may have gone.
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", body.decode())
                # Without it nobody could tell an answer from the beginning of one.
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815 the names that the server calls

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
