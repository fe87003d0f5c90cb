"""A stand-in for AWS KMS: the two operations that Pulumi's secrets provider calls, with a key that is never shown."""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet

ALIAS = "alias/meshtrust"
PROVIDER = f"awskms://{ALIAS}?region=eu-central-1"


@dataclass
class Kms:
    """The service.

    Attributes:
        url: Its address.
        is_denied: Whether it refuses every call, as to a role that has lost its rights.
        calls: The operations that it was asked for.
    """

    url: str = ""
    is_denied: bool = False
    calls: list[str] = field(default_factory=list)
    _key: Fernet = field(default_factory=lambda: Fernet(Fernet.generate_key()))

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which AWS' SDK finds it."""
        return {"AWS_ENDPOINT_URL_KMS": self.url, "AWS_ACCESS_KEY_ID": "of-the-test", "AWS_SECRET_ACCESS_KEY": "hush"}

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Return the status and the body for a call.

        Source: AWS Key Management Service API Reference, Encrypt and Decrypt.
        """
        self.calls.append(operation)
        if self.is_denied:
            return 400, {"__type": "AccessDeniedException", "message": f"not authorized to perform: kms:{operation}"}
        if operation == "Encrypt":
            assert asked["KeyId"] == ALIAS
            blob = self._key.encrypt(base64.b64decode(asked["Plaintext"]))
            return 200, {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": ALIAS}
        plain = self._key.decrypt(base64.b64decode(asked["CiphertextBlob"]))
        return 200, {"Plaintext": base64.b64encode(plain).decode(), "KeyId": ALIAS}


@contextlib.contextmanager
def kms() -> Iterator[Kms]:
    """Serve it in a thread."""
    service = Kms()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=of-the-test/")
            status, found = service.answer(self.headers["X-Amz-Target"].removeprefix("TrentService."), asked)
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service
        server.shutdown()
