"""A CA certificate that Pulumi's tls provider signs with the trust anchor's key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi
import pulumi_tls as tls

from components.trust_anchor import Signer
from meshtrust.pki.intermediates import check_intermediate
from meshtrust.pki.pem import read_bundle


class OutlivingError(Exception):
    """A certificate that would outlive its root; the message names it and the way out."""


@dataclass(frozen=True, kw_only=True)
class CaSubject:
    """Subject of a CA certificate.

    Attributes:
        common_name: Its common name.
        organizational_unit: Part of its name that distinguishes it from its predecessors.
        dns_names: Alternative names.
        may_sign_a_ca: Whether another CA may follow below it.
    """

    common_name: str
    organizational_unit: str
    dns_names: Sequence[str] = ()
    may_sign_a_ca: bool


@dataclass(frozen=True, kw_only=True)
class SignedPair:
    """A certificate and its key (a secret), both PEM."""

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]


@dataclass(frozen=True, kw_only=True)
class RequestedPair:
    """A request for a certificate and its key (a secret), both PEM."""

    request_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]


def intermediate_subject(trust_domain: str, generation: str) -> CaSubject:
    """Return who the intermediate CA of a cluster is, under a generation of the trust anchor."""
    return CaSubject(
        common_name=f"intermediate.linkerd.{trust_domain}",
        organizational_unit=f"generation {generation}",
        # The identity issuer is the one CA that may follow.
        may_sign_a_ca=True,
    )


def sign_ca(
    name: str, subject: CaSubject, signer: Signer, *, validity: timedelta | None, parent: pulumi.Resource | None
) -> SignedPair:
    """Declare a key and a CA certificate under the trust anchor, as `request_ca` and `sign_request` make them."""
    requested = request_ca(name, subject, parent=parent)
    certificate = sign_request(
        name,
        requested.request_pem,
        signer,
        may_sign_a_ca=subject.may_sign_a_ca,
        validity=validity,
        parent=parent,
    )
    return SignedPair(certificate_pem=certificate, private_key_pem=requested.private_key_pem)


def request_ca(name: str, subject: CaSubject, *, parent: pulumi.Resource | None) -> RequestedPair:
    """Declare a key, ECDSA P-256, and a request for its certificate, which keeps its subject once it exists.

    Args:
        name: Beginning of the resources' names.
        subject: Who it is for.
        parent: The component.
    """
    key = tls.PrivateKey(
        f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=pulumi.ResourceOptions(parent=parent)
    )
    request = tls.CertRequest(
        f"{name}-request",
        private_key_pem=key.private_key_pem,
        subject=tls.CertRequestSubjectArgs(
            common_name=subject.common_name,
            organization=pulumi.get_stack(),
            organizational_unit=subject.organizational_unit,
        ),
        dns_names=list(subject.dns_names) or None,
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=["subject", "dnsNames"]),
    )
    return RequestedPair(
        request_pem=request.cert_request_pem, private_key_pem=pulumi.Output.secret(key.private_key_pem)
    )


def sign_request(
    name: str,
    request_pem: pulumi.Input[str],
    signer: Signer,
    *,
    may_sign_a_ca: bool,
    validity: timedelta | None,
    keeps_days: bool = True,
    parent: pulumi.Resource | None,
) -> pulumi.Output[str]:
    """Declare a CA certificate under the trust anchor: with no extended key usage, and its PEM is returned.

    It ends a day before its root at the latest: what outlives its root is refused from that day on. A certificate that
    exists keeps its days, whatever configuration or the clock says later; one that would be made again for as many is
    refused before it is made.

    Args:
        name: Beginning of the resource's name.
        request_pem: What is asked for.
        signer: The generation that signs, whose key is in this stack.
        may_sign_a_ca: Whether another CA may follow below it.
        validity: Its lifetime at most; none for as long as its root.
        keeps_days: Whether it may exist already; one for a request that was never signed gets the days that are left.
        parent: The component.
    """
    certificate = tls.LocallySignedCert(
        f"{name}-certificate",
        cert_request_pem=request_pem,
        ca_private_key_pem=signer.key,
        ca_cert_pem=signer.certificate_pem,
        is_ca_certificate=True,
        # The provider loses a path length of 0, so that it is given where another CA follows only.
        max_path_length=1 if may_sign_a_ca else None,
        set_subject_key_id=True,
        allowed_uses=["cert_signing", "crl_signing"],
        validity_period_hours=signer.certificate_pem.apply(lambda root: hours_under(root, validity)),
        opts=pulumi.ResourceOptions(
            parent=parent,
            ignore_changes=["validityPeriodHours"] if keeps_days else None,
            hooks=pulumi.ResourceHookBinding(
                before_create=[
                    pulumi.ResourceHook(
                        f"{name}-ends-before-its-root", refuse_outliving, pulumi.ResourceHookOptions(on_dry_run=True)
                    )
                ]
            ),
        ),
    )

    def check(pems: Sequence[str]) -> str:
        pem, root = pems
        check_intermediate(pem, root, may_sign_a_ca=may_sign_a_ca)
        return pem

    return pulumi.Output.all(certificate.cert_pem, signer.certificate_pem).apply(check)


async def refuse_outliving(hook: pulumi.ResourceHookArgs) -> None:
    """Refuse to make a certificate that would outlive its root: the hook of `sign_request`.

    Raises:
        OutlivingError: It would.
    """
    inputs = hook.new_inputs or {}
    root_pem = await pulumi.Output.from_input(inputs["caCertPem"]).future()
    hours = await pulumi.Output.from_input(inputs["validityPeriodHours"]).future()
    if root_pem is None or hours is None:
        # A preview that makes the root knows neither.
        return
    hours, end = int(hours), read_bundle(str(root_pem))[0].not_valid_after_utc
    if datetime.now(UTC) + timedelta(hours=hours) > end:
        msg = (
            f"{hook.name} would be signed again for {hours} hours, as when it was made first, and outlive its root, "
            f"which ends {end:%Y-%m-%d %H:%M} UTC. Leave out what replaces it (--target-replace, --replace); or have "
            "the engine forget it with what is made from it, so that the next run makes it for the time that is left "
            f"and takes the rest over: {how_to_forget(hook.urn)}. If the root has ended, rotate to another "
            "generation instead."
        )
        raise OutlivingError(msg)


def how_to_forget(urn: str) -> str:
    """Return the command by which the engine forgets a resource: it refuses to while others depend on it."""
    return f"pulumi state delete '{urn}' --target-dependents --yes"


def hours_under(root_pem: str, validity: timedelta | None) -> int:
    """Return the whole hours that a certificate made now lives: a day less than its root, or less, never below one."""
    left = read_bundle(root_pem)[0].not_valid_after_utc - datetime.now(UTC) - timedelta(days=1)
    return max(1, min(left, validity or left) // timedelta(hours=1))
