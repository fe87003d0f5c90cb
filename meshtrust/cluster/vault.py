"""Vault as cert-manager's issuer: what Vault says when it does not sign, and what to do about it."""

import re
from collections.abc import Mapping
from typing import Any

# The words of Vault, of its Go client and of cert-manager, each with what to do; the first that fits counts. Seen on
# OpenBao 2.7 with cert-manager 1.21 (tests/rehearsal/test_vault.py).
_FIXES = (
    (
        r"not a Vault error response|invalid character '<'|protocol downgrade|failed to decode response|Raw Message|"
        r"Code: (3\d\d|502|504)|10 redirects",
        "What answers at {server} is not Vault, but something before it, such as a load balancer or a page to log in "
        "at. See that Vault runs behind it, and set spec.vault.server to the address of Vault's API",
    ),
    (
        r"Vault is sealed|Code: 503",
        "Unseal Vault ({server}): vault operator unseal",
    ),
    (
        r"Vault is not initialized|Code: 501",
        "Initialize Vault ({server}), and set up its PKI engine and the login of cert-manager",
    ),
    (
        r"no default issuer|unable to find PKI issuer",
        "The mount has no such authority. Make its root or intermediate there (vault write <mount>/root/generate/...), "
        "or set spec.vault.path to <mount>/issuer/<name>/sign-intermediate of one that it has",
    ),
    (
        r"beyond the expiration of the CA|after the CA's expiration",
        "The authority of this mount ends before the issuer would. Rotate to a mount with another root, or set a "
        "shorter issuer.duration",
    ),
    (
        r"max path length of zero",
        "The authority of this mount may sign no CA. Have it signed again with a path length of 1 or more, or sign by "
        "the mount that has signed it",
    ),
    (
        r"invalid role or secret ID|secret id",
        "Have Vault make a new secret id of the AppRole, and write it into the Secret that "
        "spec.vault.auth.appRole.secretRef names",
    ),
    (
        r"audience|\(aud\)|claim \"aud\"",
        "Set the audience of Vault's role to vault://{name}: vault write auth/<mount>/role/<role> audience=vault://{name}",
    ),
    (
        r"service account name not authorized|namespace not authorized|invalid role name",
        "Make the role that spec.vault.auth.kubernetes.role names in Vault, and bind it to the service account and "
        "namespace that cert-manager asks a token for",
    ),
    (
        r"namespace not found|Vault-Namespace",
        "Set spec.vault.namespace to the namespace of Vault that has the mount, or remove it",
    ),
    (
        r"/login Code: 40[034]",
        "Vault lets cert-manager not log in. See that the login method is mounted where spec.vault.auth says, and that "
        "its role is there",
    ),
    (
        r"Code: 403",
        "Vault's token has ended, or no policy of its allows `update` on {path}. Give it a policy with "
        'path "{path}" {{ capabilities = ["update"] }}, and a static token that has ended a new one',
    ),
    (
        r"Code: 404|no handler for route",
        "Vault has no PKI engine there. Set spec.vault.path to <mount>/root/sign-intermediate, without v1/ before it",
    ),
    (
        r"rate limit quota|Code: 429",
        "Vault takes no more requests for now. Raise its quota for {path}; cert-manager asks again by itself",
    ),
    (
        r"unknown role|no valid certificates found|key type|unsupported operation",
        "This path signs no request for a CA. Set spec.vault.path to <mount>/root/sign-intermediate",
    ),
    (
        r"certificate required|tls: bad certificate",
        "Vault asks for a client's certificate. Set spec.vault.clientCertSecretRef and clientKeySecretRef to one that "
        "it takes",
    ),
    (
        r"x509:|tls: failed to verify|signed by unknown authority",
        "Set spec.vault.caBundle to the authority of Vault's own certificate (PEM in base64), and spec.vault.server to "
        "a name that the certificate has",
    ),
    (
        r"HTTP request to an HTTPS server|HTTP response to HTTPS client|does not look like a TLS|connection reset|EOF",
        "See that spec.vault.server ({server}) begins with https:// if Vault serves TLS there, and else with http://",
    ),
    (
        r"connection refused|no such host|server misbehaving|i/o timeout|deadline exceeded|no route to host|network is "
        r"unreachable",
        "See that Vault runs, and that cert-manager's pods reach {server}",
    ),
    (
        r"no data for|not found",
        "Write the Secret that spec.vault.auth names, into cert-manager's namespace for a ClusterIssuer",
    ),
)
_OTHERWISE = "See Vault's own log ({server}) for the reason, and compare the issuer with docs/issuing.md"


def explain(issuer: Mapping[str, Any], said: str) -> str:
    """Return what cert-manager says of an issuer or a request, on one line, with what to do where Vault is behind it.

    Args:
        issuer: The issuer, as the API server has it.
        said: The words of cert-manager.

    Returns:
        A sentence without its end, or several.
    """
    line = " ".join(said.split()).rstrip(". ")
    vault = (issuer.get("spec") or {}).get("vault")
    if not isinstance(vault, Mapping):
        return line
    path, server, name = str(vault.get("path")), str(vault.get("server")), issuer["metadata"]["name"]
    place = f"{line} ({issuer.get('kind', 'issuer')} {name} signs by path {path} of Vault)"
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, line)), _OTHERWISE)
    return f"{place}. {fix.format(path=path, server=server, name=name)}"
