"""Keys of a cluster's intermediates, and the requests that the anchor stack of its fleet signs."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.signed_certificate import RequestedPair, intermediate_subject, request_ca


@dataclass(frozen=True, kw_only=True)
class IntermediateRequestsArgs:
    """Inputs of the requests.

    Attributes:
        generations: The trust anchor's generations under which this cluster is to be able to sign.
        trust_domain: Linkerd's trust domain.
    """

    generations: tuple[str, ...]
    trust_domain: str


class IntermediateRequests(pulumi.ComponentResource):
    """`meshtrust:index:IntermediateRequests`: a `tls.PrivateKey` and a `tls.CertRequest` for each generation.

    The keys stay in this stack; only the requests go to the anchor stack, by the outputs.
    """

    pairs: Mapping[str, RequestedPair]
    """Each generation's key and request."""

    def __init__(self, name: str, args: IntermediateRequestsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:IntermediateRequests", name, None, opts)
        self.pairs = {
            generation: request_ca(
                f"{name}-{generation}", intermediate_subject(args.trust_domain, generation), parent=self
            )
            for generation in args.generations
        }
        self.register_outputs({})

    @property
    def requests(self) -> dict[str, pulumi.Output[str]]:
        """The requests as PEM, by generation."""
        return {generation: pair.request_pem for generation, pair in self.pairs.items()}
