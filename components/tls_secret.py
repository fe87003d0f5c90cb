"""The content of a Secret of type kubernetes.io/tls."""

import base64

import pulumi


def tls_data(
    chain: pulumi.Output[str], key: pulumi.Output[str], root: pulumi.Output[str] | None = None
) -> dict[str, pulumi.Output[str]]:
    """Return a TLS Secret's data: the certificate with its issuers, its key, and the root where it is asked for.

    Args:
        chain: The certificate, followed by its issuers, as PEM.
        key: Its key as PEM.
        root: The root that it chains to, as PEM.
    """
    data = {"tls.crt": chain.apply(_base64), "tls.key": key.apply(_base64)}
    return data if root is None else {**data, "ca.crt": root.apply(_base64)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
