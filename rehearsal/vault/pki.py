"""Mounts of the PKI engine, each an authority whose key never leaves the server."""

from typing import Any

from rehearsal.vault.server import OpenBao

_TEN_YEARS = "87600h"
_KEY = {"key_type": "ec", "key_bits": 256, "ttl": _TEN_YEARS}


def make_root(bao: OpenBao, mount: str, **parameters: Any) -> str:
    """Make a mount with a root of its own; return the root as PEM.

    Args:
        bao: The server.
        mount: Path of the mount.
        parameters: Of the root, beyond its key and life, such as `max_path_length` (OpenBao API, PKI, generate root).
    """
    _enable(bao, mount)
    common_name = f"Root of {mount}"
    made = bao.write(f"{mount}/root/generate/internal", common_name=common_name, **_KEY, **parameters)
    return str(made["certificate"])


def make_intermediate(bao: OpenBao, mount: str, under: str, *, with_root: bool = True, **parameters: Any) -> str:
    """Make a mount whose authority another mount has signed; return its certificate as PEM.

    Args:
        bao: The server.
        mount: Path of the mount.
        under: Path of the mount that signs it.
        with_root: Whether the mount is given the root too, which it then serves in its chain.
        parameters: Of the certificate, such as `max_path_length` (OpenBao API, PKI, sign intermediate).
    """
    _enable(bao, mount)
    name = {"common_name": f"Intermediate of {mount}"}
    asked = bao.write(f"{mount}/intermediate/generate/internal", **name, **_KEY)
    signed = bao.write(f"{under}/root/sign-intermediate", csr=asked["csr"], **name, **{"ttl": _TEN_YEARS, **parameters})
    chain = [signed["certificate"], signed["issuing_ca"]] if with_root else [signed["certificate"]]
    bao.write(f"{mount}/intermediate/set-signed", certificate="\n".join(chain))
    return str(signed["certificate"])


def allow_signing(bao: OpenBao, policy: str, path: str) -> None:
    """Make a policy that allows to sign by one path and nothing else."""
    bao.call("PUT", f"sys/policies/acl/{policy}", policy=f'path "{path}" {{ capabilities = ["create", "update"] }}')


def _enable(bao: OpenBao, mount: str) -> None:
    bao.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": _TEN_YEARS})
