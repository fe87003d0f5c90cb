"""The suffix of every identity in a mesh, after the workload's own name; a running mesh cannot change it."""

from dataclasses import dataclass


class IllegalRenameError(Exception):
    """A change of the suffix of every identity; the message names the key to set back."""


@dataclass(frozen=True, kw_only=True)
class IdentitySuffix:
    """The suffix of the identities of a mesh: control plane namespace and trust domain.

    Attributes:
        namespace: Namespace of Linkerd's control plane; empty where it is not known.
        trust_domain: Linkerd's trust domain; empty where it is not known.
    """

    namespace: str
    trust_domain: str


def check_rename(last: IdentitySuffix, wanted: IdentitySuffix) -> None:
    """Make sure that the suffix of a mesh's identities stays the same.

    A proxy keeps its own identity, and that of the identity service, from its start to its end. A proxy that was not
    restarted since a change is refused by those that were, and gets no new certificate. A new namespace, besides, has
    no pod yet that a gate could check.

    Args:
        last: The suffix at the last deployment.
        wanted: The suffix by the configuration.

    Raises:
        IllegalRenameError: A part that is known of the last deployment has changed.

    Source: linkerd2 ``controller/identity/domain.go`` and ``charts/partials/templates/_proxy.tpl``.
    """
    compared = (
        ("trustDomain", last.trust_domain, wanted.trust_domain),
        ("linkerd.namespace", last.namespace, wanted.namespace),
    )
    changed = [(key, was, now) for key, was, now in compared if was and was != now]
    if not changed:
        return
    changes = " ".join(
        f'meshtrust:{key} is "{now}", and was "{was}" at the last deployment.' for key, was, now in changed
    )
    back = "; ".join(f"pulumi config set {'--path ' if '.' in key else ''}{key} {was}" for key, was, _ in changed)
    msg = (
        f"{changes} Every identity in the mesh ends with the namespace and the trust domain of Linkerd: running "
        f"proxies would be refused by new ones, and would get no certificate. Set it back: {back}. To change it, "
        "uninstall Linkerd (docs/upgrading.md, Uninstall), and deploy it by a new stack."
    )
    raise IllegalRenameError(msg)
