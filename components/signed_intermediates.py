"""Intermediates that an anchor stack signs for the clusters of its fleet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.signed_certificate import sign_request
from components.trust_anchor import Signer


@dataclass(frozen=True, kw_only=True)
class SigningRequest:
    """Request of a cluster.

    Attributes:
        stack: The cluster's stack.
        generation: The generation that is to sign.
        pem: The request as PEM.
        is_signed: Whether the last deployment has signed this very request: that certificate keeps its days.
    """

    stack: str
    generation: str
    pem: str
    is_signed: bool


@dataclass(frozen=True, kw_only=True)
class SignedIntermediatesArgs:
    """Inputs of the signed intermediates.

    Attributes:
        requests: What the clusters ask for, checked.
        signers: The trust anchor's generations.
    """

    requests: Sequence[SigningRequest]
    signers: Mapping[str, Signer]


class SignedIntermediates(pulumi.ComponentResource):
    """`meshtrust:index:SignedIntermediates`: a `tls.LocallySignedCert` for each cluster and generation."""

    certificates: dict[str, dict[str, pulumi.Output[str]]]
    """The signed intermediates as PEM, by stack and generation."""

    def __init__(self, name: str, args: SignedIntermediatesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:SignedIntermediates", name, None, opts)
        self.certificates = {}
        for request in args.requests:
            self.certificates.setdefault(request.stack, {})[request.generation] = sign_request(
                # A slash stands in no resource's name.
                f"{request.stack.replace('/', '-')}-{request.generation}",
                request.pem,
                args.signers[request.generation],
                may_sign_a_ca=True,
                validity=None,
                keeps_days=request.is_signed,
                parent=self,
            )
        self.register_outputs({})
