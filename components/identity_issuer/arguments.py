"""Inputs of an identity issuer, for every signer."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import pulumi

from components.ca_issuer import CaCertificate
from components.charts import Resources
from components.signed_certificate import SignedPair
from components.trust_anchor import Signer
from meshtrust.pki.issuer_mode import IssuerMode


@dataclass(frozen=True, kw_only=True)
class IssuerReference:
    """An issuer of cert-manager, or one that extends it.

    Attributes:
        name: Its name.
        kind: Its kind: ``Issuer`` is one of the control plane's namespace, ``ClusterIssuer`` one of the cluster.
        group: Group of its API.
    """

    name: str
    kind: str
    group: str

    def __str__(self) -> str:
        """Return it as a person names it."""
        return f"{self.kind}.{self.group} {self.name}"


@dataclass(frozen=True, kw_only=True)
class IssuerPolicy:
    """Signer of the identity issuer, and its lifetime.

    Attributes:
        mode: Who signs: see the modules of this package.
        trust_domain: Linkerd's trust domain, which the issuer's names end with.
        duration: Lifetime of an issuer that cert-manager issues.
        renew_before: Time before its end at which cert-manager renews it.
        reference: The issuer of cert-manager that signs in mode ``external-issuer``.
        serial: Name of the present issuer in mode ``pulumi``; another name makes another issuer.
        validity: Lifetime of an issuer that is made from now on in mode ``pulumi``.
    """

    mode: IssuerMode
    trust_domain: str
    duration: timedelta
    renew_before: timedelta
    reference: IssuerReference | None
    serial: str
    validity: timedelta

    @property
    def identity(self) -> str:
        """The issuer's name."""
        return f"identity.linkerd.{self.trust_domain}"

    def as_outputs(self) -> dict[str, Any]:
        """Return, as plain data, what decides who signs: another value means that another issuer is to be served.

        It holds no null, which the engine leaves out of outputs: read again, they would be another value.
        """
        described: dict[str, Any] = {"mode": self.mode}
        if self.reference and self.mode == "external-issuer":
            described["reference"] = asdict(self.reference)
        if self.mode == "pulumi":
            described["serial"] = self.serial
        return described


@dataclass(frozen=True, kw_only=True)
class IdentityIssuerArgs:
    """Inputs of an identity issuer.

    Attributes:
        policy: Who signs it, and how long it lives.
        namespace: Namespace of Linkerd's control plane, which exists.
        after: What is there before cert-manager's objects are made, and goes after them; keys wait for none of it.
        deleted_with: The namespace itself, whose deletion deletes what is made in it.
        signer: The trust anchor's generation that signs.
        intermediate: The intermediate CA of mode ``intermediate`` where another stack signed it; None if this
            one does.
        default_named_generation: The generation whose Secret and Issuer bear the guide's names in mode ``anchor``.
    """

    policy: IssuerPolicy
    namespace: pulumi.Input[str]
    after: Resources = field(default_factory=list)
    deleted_with: pulumi.Resource | None = None
    signer: Signer
    intermediate: SignedPair | None = None
    default_named_generation: str


@dataclass(frozen=True, kw_only=True)
class IssuerSigner:
    """Resources that sign the identity issuer, declared before it; empty if a third party writes the Secret.

    Attributes:
        reference: The issuer of cert-manager that signs.
        pair: The issuer itself, signed by the tls provider.
        certificate: The Certificate of the issuer, where a CA of this stack signs it.
        resources: The resources that are to be there before the issuer changes.
    """

    reference: IssuerReference | None = None
    pair: SignedPair | None = None
    certificate: CaCertificate | None = None
    resources: Sequence[pulumi.Resource] = ()


# A mode: it declares what signs the issuer.
Mode = Callable[[str, IdentityIssuerArgs, pulumi.ResourceOptions], IssuerSigner]
