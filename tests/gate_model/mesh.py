"""An installation of Linkerd in the model: what its namespace holds."""

from dataclasses import dataclass, field
from datetime import datetime

from meshtrust.pki.pem import sha256_hex
from tests.gate_model.pki import Issuer, fingerprint_of, read_generations


@dataclass(eq=False)
class Mesh:
    """An installation.

    Attributes:
        namespace: Namespace of its control plane.
        by_trust_manager: Whether trust-manager publishes the bundle, and no chart.
        bundle: The text of ConfigMap linkerd-identity-trust-roots.
        secret: The issuer in Secret linkerd-identity-issuer.
        signer: The generation that the Certificate asks for.
        issues: When cert-manager issues the next one.
        fixed_end: The end of every issuer, where who issues them has them end together.
        annotations: Annotations of the control plane's templates.
        released: The bundle of the last release.
        written: When who wrote the ConfigMap did so last.
        previous: What the ConfigMap held before that.
        is_old: Whether its version tells neither what a proxy was started with nor when the issuer ends.
    """

    namespace: str
    by_trust_manager: bool
    bundle: str
    secret: Issuer
    signer: str
    issues: datetime | None = None
    fixed_end: datetime | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    released: str = ""
    written: dict[str, datetime] = field(default_factory=dict)
    previous: str = ""
    is_old: bool = False

    def annotate(self, bundle: str) -> None:
        """Put on the templates of the control plane what a release with this bundle does.

        Source: linkerd2 ``charts/partials/templates/_metadata.tpl``; `components.linkerd` for what this project adds.
        """
        self.released = bundle
        value = "" if self.by_trust_manager else bundle
        self.annotations = {
            "linkerd.io/trust-root-sha256": sha256_hex(value),
            "meshtrust.io/trust-anchors-sha256": sha256_hex(bundle),
        }
        if self.by_trust_manager:
            listed = ",".join(fingerprint_of(name) for name in sorted(read_generations(bundle)))
            self.annotations["meshtrust.io/trust-anchors"] = listed
