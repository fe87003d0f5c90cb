"""Credentials for an API server, from a context of a kubeconfig, as kubectl takes them (client-go ``rest/config.go``).

Of the kept clients for Python, none reads every kind of them and leaves no copy of a key on the disk: see
requirements.txt.
"""

import asyncio
import base64
import binascii
import json
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from meshtrust.cluster.connection.kubeconfig import Context

# Seconds that a kubeconfig's command for credentials may take, a login by a person included.
_LOGIN_SECONDS = 60
# A header of HTTP has no others (RFC 9110, section 5.5), and one that is refused is shown.
_TOKEN = re.compile(r"[!-~]+")
# Lines of what a command for credentials writes to standard error that a message has, the last ones.
_MOST_ERROR_LINES = 20
_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class CredentialsError(Exception):
    """Credentials that cannot be had; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """All that a connection to an API server needs.

    Attributes:
        server: Its URL.
        headers: Headers of each request, the token among them.
        tls: How the server is verified, with the client's certificate.
        proxy: URL of the proxy on the way to it; None for none, or that of the environment.
        server_name: Name to verify the server's certificate against; None for that of the URL.
    """

    server: str
    headers: list[tuple[str, str]]
    tls: ssl.SSLContext
    proxy: str | None
    server_name: str | None


async def read_credentials(context: Context) -> Credentials:
    """Return a context's credentials, asked for or read from their files at this moment.

    Raises:
        CredentialsError: They are missing, malformed or of a kind that Kubernetes has given up; or the command for them
            fails.
    """
    cluster, user = context.cluster, dict(context.user)
    if user.get("exec"):
        user |= await _run_command(user["exec"], cluster)
    if user.get("username") or user.get("password"):
        msg = "the kubeconfig has a username and a password, which Kubernetes takes no more since version 1.19"
        raise CredentialsError(msg)
    try:
        return Credentials(
            server=str(cluster["server"]),
            headers=list(_headers(user)),
            tls=_tls(cluster, user),
            proxy=cluster.get("proxy-url") or None,
            server_name=cluster.get("tls-server-name") or None,
        )
    except KeyError as error:
        msg = f"the kubeconfig has no {error} where it must"
        raise CredentialsError(msg) from error


def _headers(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if token := _token(user):
        if not _TOKEN.fullmatch(token):
            msg = "the kubeconfig's token, or that of its command, has characters that no token has"
            raise CredentialsError(msg)
        yield "Authorization", f"Bearer {token}"
    # Kubernetes, "User impersonation".
    if user.get("as"):
        yield "Impersonate-User", user["as"]
    if user.get("as-uid"):
        yield "Impersonate-Uid", user["as-uid"]
    yield from (("Impersonate-Group", group) for group in user.get("as-groups") or [])
    for key, values in (user.get("as-user-extra") or {}).items():
        yield from ((f"Impersonate-Extra-{key}", value) for value in values)


def _token(user: Mapping[str, Any]) -> str:
    # A file goes before a token, since it is the one that is renewed (client-go ``tools/clientcmd/api/types.go``).
    if user.get("tokenFile"):
        return _read_file(user, "tokenFile").strip()
    if user.get("auth-provider"):
        provider = user["auth-provider"]
        if provider["name"] != "oidc":
            msg = f'the kubeconfig\'s auth-provider "{provider["name"]}" was taken out of Kubernetes 1.26: use exec'
            raise CredentialsError(msg)
        return str(provider["config"]["id-token"])
    return str(user.get("token") or "")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority")
    if cluster.get("insecure-skip-tls-verify"):
        context = httpx.create_ssl_context(verify=False)
    elif authority:
        # Not by create_default_context, whose strictness since Python 3.13 refuses authorities that clusters have.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with _reading_pem("certificate-authority has no certificate in PEM"):
            context.load_verify_locations(cadata=authority)
    else:
        context = httpx.create_ssl_context()
    certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
    if certificate and key:
        pair = "client-certificate and client-key are not a certificate in PEM and its key, without a password"
        with _reading_pem(pair), _as_file(certificate + "\n" + key) as path:
            # A password would be asked for on the terminal.
            context.load_cert_chain(path, password=lambda: "")
    return context


def _content(holder: Mapping[str, Any], key: str) -> str:
    """Return the PEM under a key of a kubeconfig: held there as ``<key>-data``, which goes first, or in a file."""
    data = holder.get(f"{key}-data")
    if data:
        try:
            # Lines may be broken in base64 (Go's encoding/base64); beside PEM there may be text in any encoding.
            return base64.b64decode("".join(data.split()), validate=True).decode("ascii", "ignore")
        except (binascii.Error, ValueError) as error:
            msg = f"the kubeconfig's {key}-data is not PEM in base64"
            raise CredentialsError(msg) from error
    return _read_file(holder, key) if holder.get(key) else ""


def _read_file(holder: Mapping[str, Any], key: str) -> str:
    """Return the text of a file that a kubeconfig names."""
    try:
        return Path(holder[key]).read_text(encoding="ascii", errors="ignore")
    except OSError as error:
        msg = (
            f"the file {holder[key]} of the kubeconfig's {key} cannot be read here: {error.strerror}; "
            "`kubectl config view --raw --flatten` has the content of files in place of their paths"
        )
        raise CredentialsError(msg) from error


@contextmanager
def _reading_pem(wrong: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        msg = f"the kubeconfig's {wrong}"
        raise CredentialsError(msg) from error


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Lend a text the path of a file, the only way in which Python's ssl takes a client's key: in memory on Linux."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("credentials")
        try:
            os.write(descriptor, text.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            yield file.name


async def _run_command(command: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a kubeconfig's command for credentials adds to its user.

    Raises:
        CredentialsError: It cannot be run, fails, takes too long, or prints something else.

    Source: Kubernetes, "Authenticating", client-go credential plugins.
    """
    version, program = command["apiVersion"], str(command["command"])
    if version not in _VERSIONS:
        msg = f"the kubeconfig's command {program} speaks {version}, and has to speak one of {', '.join(_VERSIONS)}"
        raise CredentialsError(msg)
    spec: dict[str, Any] = {"interactive": False}
    if command.get("provideClusterInfo"):
        spec["cluster"] = {key: value for key, value in cluster.items() if key != "extensions"}
    asked = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    named = {entry["name"]: entry.get("value", "") for entry in command.get("env") or []}
    printed = await _run(
        [program, *(command.get("args") or [])],
        {**os.environ, **named, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
        str(command.get("installHint") or ""),
    )
    try:
        status = json.loads(printed)["status"]
        found = {"token": str(status["token"])} if status.get("token") else {}
        if status.get("clientCertificateData"):
            for key, data in (("certificate", status["clientCertificateData"]), ("key", status["clientKeyData"])):
                found[f"client-{key}-data"] = base64.b64encode(data.encode()).decode()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # What it printed may be a secret.
        msg = f"the kubeconfig's command {program} prints something else than an ExecCredential"
        raise CredentialsError(msg) from error
    if not found:
        msg = f"the kubeconfig's command {program} gives neither a token nor a certificate with its key"
        raise CredentialsError(msg)
    return found


async def _run(arguments: list[str], environment: Mapping[str, str], hint: str) -> bytes:
    quiet, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, env=environment, stdin=quiet, stdout=pipe, stderr=pipe
        )
    # A name of a variable with "=", or a text with a zero byte, is a ValueError.
    except (OSError, ValueError) as error:
        msg = f"the kubeconfig's command {arguments[0]} cannot be run: {error}. {hint}".strip()
        raise CredentialsError(msg) from error
    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            printed, errors = await process.communicate()
    except TimeoutError as error:
        msg = f"the kubeconfig's command {arguments[0]} has not ended within {_LOGIN_SECONDS} seconds"
        raise CredentialsError(msg) from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        output = "\n".join(errors.decode(errors="replace").strip().splitlines()[-_MOST_ERROR_LINES:])
        msg = f"the kubeconfig's command {arguments[0]} ended with code {process.returncode}: {output}"
        raise CredentialsError(msg)
    return printed
