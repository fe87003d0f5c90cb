"""Modes of the identity issuer (who signs it), and the moves between them that keep an issuer in place throughout."""

from typing import Literal

IssuerMode = Literal["intermediate", "anchor", "external-issuer", "external-secret", "pulumi"]

# In these the signer's key has to be in this stack.
SIGNING_MODES: frozenset[str] = frozenset({"intermediate", "anchor", "pulumi"})
# In these cert-manager issues, and writes the Secret.
CERT_MANAGER_MODES: frozenset[str] = frozenset({"intermediate", "anchor", "external-issuer"})


class IllegalMoveError(Exception):
    """A move that would leave the mesh without an issuer for a moment; the message names the move that comes first."""


def check_move(last: str, wanted: str, *, switches: bool) -> None:
    """Make sure that a run may move from one mode to another.

    Every other move is safe in one run: cert-manager leaves its Secret when a Certificate goes, writes over a Secret
    that is there, and answers another ``issuerRef`` with a new issue while the old issuer stays.

    Args:
        last: The mode of the last deployment; empty where it is unknown, or there was none.
        wanted: The mode that the configuration asks for.
        switches: Whether the signer changes in the same run.

    Raises:
        IllegalMoveError: cert-manager and another would write the Secret in the same run.
    """
    if last not in CERT_MANAGER_MODES:
        return
    if wanted == "pulumi":
        msg = (
            f'meshtrust:issuer.mode is "pulumi", and was "{last}". The engine takes cert-manager\'s Certificate away '
            "at the end of a run, and until then cert-manager would write its own issuer over Pulumi's. First deploy "
            'mode "external-secret", which takes the Certificate away and leaves its Secret; then mode "pulumi".'
        )
        raise IllegalMoveError(msg)
    if wanted == "external-secret" and switches:
        msg = (
            f'meshtrust:issuer.mode is "external-secret", and was "{last}", and meshtrust:signer changes in the same '
            "run. As long as cert-manager's Certificate is there, it would write over what the third party writes. "
            'First deploy mode "external-secret" with the present signer; then have the Secret written under the '
            "other one, and switch."
        )
        raise IllegalMoveError(msg)
