"""What every identity of a mesh ends with, after the workload's own name, so that a mesh that runs cannot change it."""

from dataclasses import dataclass


class IllegalRenameError(Exception):
    """A change of what every identity is named by; the message says what to set back."""


@dataclass(frozen=True, kw_only=True)
class IdentityName:
    """What the identities of a mesh end with.

    Attributes:
        namespace: Namespace of Linkerd's control plane; empty where it is not known.
        trust_domain: Linkerd's trust domain; empty where it is not known.
    """

    namespace: str
    trust_domain: str


def check_rename(last: IdentityName, wanted: IdentityName) -> None:
    """Make sure that the identities of a mesh stay what they are.

    A proxy has its own identity, and that of the identity service, from its start to its end: one that was not
    restarted since a change is refused by those that were, and gets no certificate any more. Another namespace has, on
    top, no pod yet that a gate could look at.

    Args:
        last: What the last deployment named them by.
        wanted: What the configuration names them by.

    Raises:
        IllegalRenameError: Something that is known of the last deployment is another now.

    Source: linkerd2 ``controller/identity/domain.go`` and ``charts/partials/templates/_proxy.tpl``.
    """
    compared = (
        ("trustDomain", last.trust_domain, wanted.trust_domain),
        ("linkerd.namespace", last.namespace, wanted.namespace),
    )
    changed = [(key, was, now) for key, was, now in compared if was and was != now]
    if not changed:
        return
    told = " ".join(f'meshtrust:{key} is "{now}", and was "{was}" at the last deployment.' for key, was, now in changed)
    back = "; ".join(f"pulumi config set {'--path ' if '.' in key else ''}{key} {was}" for key, was, _ in changed)
    msg = (
        f"{told} Every identity in the mesh ends with namespace and trust domain of Linkerd: proxies that run would be "
        f"refused by those that start, and get no certificate any more. Set it back: {back}. To have another, "
        "uninstall Linkerd (docs/upgrading.md, Uninstall), and deploy it by a new stack."
    )
    raise IllegalRenameError(msg)
