"""The stack's configuration, read and checked as a whole; nothing else reads `pulumi.Config`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import pulumi
import pulumi_kubernetes as kubernetes

import versions
from components.cert_manager import CertManagerArgs
from components.charts import ChartSource
from components.identity_issuer import IssuerPolicy, IssuerReference
from components.linkerd import LinkerdInstallation
from components.observability import Monitoring, Watched
from components.trust_anchor import TrustAnchorArgs
from meshtrust.evidence import leaf_lifetime
from meshtrust.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES, IssuerMode
from meshtrust.lint import LEAF_LIFETIME, lint_issuer_window, lint_trust_anchor
from meshtrust.pem import PemError, normalise_bundle, read_bundle
from meshtrust.private_key import key_to_pem, read_private_key
from meshtrust.rotation import Trust
from reader import Reader

_GENERATION = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_OVERRIDDEN = re.compile(r"(switch|retire)-[-a-z0-9]+")
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# A root that ends sooner cannot see a rotation through, and what it signs would outlive it.
_MINIMUM_ANCHOR_LIFE = timedelta(days=7)

# Helm values that carry the credentials. Set from outside, they would break the chain behind the program's back.
_OWNED_VALUES = {
    "identityTrustAnchorsPEM": "the bundle follows from meshtrust:anchors",
    "identityTrustDomain": "set meshtrust:trustDomain",
    "identity.externalCA": "the bundle is part of the release",
    "identity.issuer.scheme": "the identity issuer is a Secret of type kubernetes.io/tls",
    "identity.issuer.tls": "the identity issuer is in Secret linkerd-identity-issuer",
}


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Which cluster: a context, its kubeconfig's path (or empty for the ambient one), its UID where it is pinned."""

    context: str
    kubeconfig: str
    uid: str

    def provider_args(self, uid: str | None) -> kubernetes.ProviderArgs:
        """Return the arguments of the Kubernetes provider for the cluster of a UID, which may be unknown offline."""
        return kubernetes.ProviderArgs(
            # Always given: the SDK would else write this machine's KUBECONFIG into the state.
            kubeconfig=self.kubeconfig,
            context=self.context,
            # A renamed context or a moved API server is the same cluster still, and nothing on it is replaced.
            cluster_identifier=uid,
            # A run that was killed after it made an object, and before it said so, is resumed by the next.
            upsert_existing_objects=True,
            # A Secret takes another content in place: replaced, it would be gone for a moment.
            enable_secret_mutable=True,
        )


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """What becomes of a step that the cluster makes unsafe.

    Attributes:
        mode: ``enforce`` refuses it, ``warn`` only tells.
        overrides: Reasons for which a step goes ahead all the same, by the step's name.
    """

    mode: str
    overrides: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a stack says, valid as a whole.

    Attributes:
        cluster: Which cluster.
        gate: What becomes of an unsafe step.
        anchor: What the trust anchor is made from.
        issuer: Who signs the identity issuer.
        cert_manager: What cert-manager is installed from; nothing where it is not installed by this stack.
        linkerd: What of Linkerd is installed.
        observability: What watches it; nothing where nothing does.
    """

    cluster: ClusterSettings
    gate: GateSettings
    anchor: TrustAnchorArgs
    issuer: IssuerPolicy
    cert_manager: CertManagerArgs | None
    linkerd: LinkerdInstallation
    observability: Monitoring | None = None

    @property
    def chart_sources(self) -> dict[str, ChartSource]:
        """Where charts come from, by the key that says so."""
        sources = {"linkerd.charts": self.linkerd.charts}
        return {"certManager.charts": self.cert_manager.charts, **sources} if self.cert_manager else sources

    @property
    def needs_cert_manager(self) -> bool:
        """Whether anything that is declared is cert-manager's."""
        return self.issuer.mode in CERT_MANAGER_MODES

    @property
    def trust(self) -> Trust:
        """What the mesh is to trust, and what is to sign in it."""
        return Trust(anchors=self.anchor.generations, signer=self.anchor.signer)

    @property
    def guide_generation(self) -> str:
        """The generation that takes the names of Linkerd's guide, where none has them yet; empty where none may."""
        return self.anchor.signer if self.issuer.mode == "anchor" else ""

    @classmethod
    def load(cls) -> "Settings":
        """Read the configuration of the stack that runs.

        Raises:
            pulumi.RunError: Something is missing, unknown, or does not fit the rest. The message lists every finding,
                each with its key, its value and the fix; at that point nothing has been registered.
        """
        reader = Reader()
        settings = _read(reader)
        settings = replace(settings, observability=_read_observability(reader, settings))
        reader.refuse_unknown()
        errors = [finding for finding in reader.findings if finding.severity == "error"]
        if errors:
            listed = "\n".join(f"  - {finding}" for finding in errors)
            msg = f"The configuration of stack {pulumi.get_stack()} cannot be deployed; nothing was changed.\n{listed}"
            raise pulumi.RunError(msg)
        for finding in reader.findings:
            pulumi.log.warn(str(finding))
        return settings


def _read(reader: Reader) -> Settings:
    trust_domain = reader.matching("trustDomain", _DOMAIN, "a DNS name in lower case")
    mode = cast("IssuerMode", reader.choice("issuer.mode", get_args(IssuerMode)))
    anchor = _read_anchor(reader, mode, trust_domain)
    timeout_seconds = reader.count("helm.timeoutSeconds")
    return Settings(
        cluster=ClusterSettings(
            context=reader.required("context"),
            kubeconfig=reader.text("kubeconfig"),
            uid=reader.text("clusterUid"),
        ),
        gate=_read_gate(reader),
        anchor=anchor,
        issuer=_read_issuer(reader, mode, trust_domain, anchor),
        cert_manager=_read_cert_manager(reader, timeout_seconds, needed=mode in CERT_MANAGER_MODES),
        linkerd=LinkerdInstallation(
            namespace=reader.namespace("linkerd.namespace"),
            trust_domain=trust_domain,
            charts=reader.charts("linkerd", versions.LINKERD, ("linkerd-crds", "linkerd-control-plane")),
            ha=reader.flag("linkerd.ha"),
            install_gateway_api=reader.flag("linkerd.installGatewayApi"),
            values=_read_linkerd_values(reader),
            timeout_seconds=timeout_seconds,
        ),
    )


def _read_cert_manager(reader: Reader, timeout_seconds: int, *, needed: bool) -> CertManagerArgs | None:
    args = CertManagerArgs(
        namespace=reader.namespace("certManager.namespace"),
        charts=reader.charts("certManager", versions.CERT_MANAGER, ("cert-manager",)),
        values=reader.mapping("certManager.values"),
        timeout_seconds=timeout_seconds,
    )
    return args if reader.flag("certManager.install") and needed else None


def _read_gate(reader: Reader) -> GateSettings:
    mode = reader.choice("gate.mode", ("enforce", "warn"))
    overrides = {}
    for step, reason in reader.mapping("gate.overrides").items():
        if not _OVERRIDDEN.fullmatch(step):
            reader.refuse(
                "gate.overrides",
                f'has "{step}", which names no step',
                "Name it as the refusal does, such as switch-2027 or retire-2026",
            )
        if not isinstance(reason, str) or not reason.strip():
            reader.refuse(
                "gate.overrides", f"has {step} without a reason", "Say why the step may go ahead; the outputs keep it"
            )
        overrides[step] = str(reason).strip()
    return GateSettings(mode=mode, overrides=overrides)


def _read_anchor(reader: Reader, mode: IssuerMode, trust_domain: str) -> TrustAnchorArgs:
    generations = _read_generations(reader)
    certificates = _read_anchor_certificates(reader, generations)
    keys = _read_anchor_keys(reader, certificates)
    signer = reader.text("signer")
    if not signer and len(generations) == 1:
        signer = generations[0]
    if generations and signer not in generations:
        known = ", ".join(generations)
        if signer:
            reader.refuse(
                "signer",
                f'is "{signer}", which is not one of meshtrust:anchors ({known})',
                f"Name one of {known}",
            )
        else:
            reader.refuse("signer", f"is not set, and there are several anchors ({known})", "Name the one that signs")
    if signer in certificates and mode in SIGNING_MODES:
        _check_brought_signer(reader, mode, signer, certificates[signer], has_key=signer in keys)
    return TrustAnchorArgs(
        generations=generations,
        signer=signer,
        certificates=certificates,
        keys=keys,
        trust_domain=trust_domain,
        validity=timedelta(days=reader.count("anchor.validityDays")),
        protect=reader.flag("anchor.protect"),
    )


def _read_generations(reader: Reader) -> tuple[str, ...]:
    # What the CLI sets by --path becomes a number where it looks like one: the name is what is written.
    value = [str(entry) if type(entry) is int else entry for entry in reader.listing("anchors")]
    for entry in value:
        if not isinstance(entry, str) or not _GENERATION.fullmatch(entry):
            reader.refuse(
                "anchors",
                f"holds {entry!r}, no name of a generation",
                'Use lower-case letters, digits and hyphens (at most 32), such as "2026"',
            )
            return ()
    if len(set(value)) != len(value):
        reader.refuse("anchors", f"is {value}, which names a generation twice", "Name each generation once")
    return tuple(dict.fromkeys(value))


def _read_anchor_certificates(reader: Reader, generations: tuple[str, ...]) -> dict[str, str]:
    key = "anchorCertificates"
    certificates: dict[str, str] = {}
    for generation, pem in reader.mapping(key).items():
        if generation not in generations:
            reader.refuse(
                key,
                f'has "{generation}", which is not one of meshtrust:anchors',
                "Add it there, or remove it here",
            )
        try:
            roots = read_bundle(str(pem))
        except PemError as error:
            reader.refuse(
                key,
                f'has "{generation}", which cannot be used: {error}',
                "Give the root's certificate as PEM",
            )
            continue
        if len(roots) > 1:
            reader.refuse(
                key, f'has "{generation}" with {len(roots)} certificates', "Give the root's certificate alone"
            )
        for wrong in lint_trust_anchor(roots[0]):
            reader.refuse(key, f'has "{generation}", which {wrong}', "Give a root that Linkerd accepts")
        if normalise_bundle(str(pem)) in certificates.values():
            reader.refuse(key, f'has "{generation}", whose root has another name too', "Name each root once")
        certificates[generation] = normalise_bundle(str(pem))
    return certificates


def _read_anchor_keys(reader: Reader, certificates: Mapping[str, str]) -> dict[str, str]:
    name = "anchorKeys"
    keys: dict[str, str] = {}
    for generation, pem in reader.secrets(name).items():
        if generation not in certificates:
            reader.refuse(
                name,
                f'has "{generation}", whose certificate is not in meshtrust:anchorCertificates',
                "Add its root there, or remove the key here",
            )
            continue
        try:
            key = read_private_key(str(pem))
        except PemError as error:
            reader.refuse(name, f'has "{generation}", which cannot be used: {error}', "Give the root's key as PEM")
            continue
        if key.public_key() != read_bundle(certificates[generation])[0].public_key():
            reader.refuse(
                name,
                f'has "{generation}" with the key of another certificate than meshtrust:anchorCertificates has',
                "Give the key that the root was made with",
            )
        keys[generation] = key_to_pem(key)
    return keys


def _check_brought_signer(reader: Reader, mode: str, signer: str, certificate: str, *, has_key: bool) -> None:
    if not has_key:
        reader.refuse(
            "signer",
            f'is "{signer}", whose root was made elsewhere (meshtrust:anchorCertificates): its key is not here, and in '
            f"mode {mode} this stack signs",
            "Bring its key along (meshtrust:anchorKeys), name a generation that this program makes, or let its owner "
            "sign (meshtrust:issuer.mode external-issuer or external-secret)",
        )
    end = read_bundle(certificate)[0].not_valid_after_utc
    if end - datetime.now(UTC) < _MINIMUM_ANCHOR_LIFE:
        reader.refuse(
            "signer",
            f'is "{signer}", whose root ends on {end:%Y-%m-%d}',
            f"Sign with one that is valid for {_MINIMUM_ANCHOR_LIFE.days} days more at least",
        )


def _read_issuer(reader: Reader, mode: IssuerMode, trust_domain: str, anchor: TrustAnchorArgs) -> IssuerPolicy:
    duration, renew_before = reader.duration("issuer.duration"), reader.duration("issuer.renewBefore")
    if duration is not None and renew_before is not None:
        for finding in lint_issuer_window(duration, renew_before, anchor.validity):
            reader.findings.append(replace(finding, subject=reader.full_name(finding.subject)))
    references = _read_references(reader, anchor.generations)
    if mode == "external-issuer" and anchor.signer not in references:
        reader.refuse(
            "issuer.refs",
            f'does not say which issuer of cert-manager signs under generation "{anchor.signer}"',
            f"Name it: pulumi config set --path 'issuer.refs[\"{anchor.signer}\"].name' <name>, and its kind and group "
            "likewise where they are not Issuer and cert-manager.io",
        )
    return IssuerPolicy(
        mode=mode,
        trust_domain=trust_domain,
        duration=duration or timedelta(),
        renew_before=renew_before or timedelta(),
        reference=references.get(anchor.signer),
        serial=reader.matching("issuer.serial", _GENERATION, "lower-case letters, digits and hyphens (at most 32)"),
        validity=timedelta(days=reader.count("issuer.validityDays")),
    )


def _read_references(reader: Reader, generations: tuple[str, ...]) -> dict[str, IssuerReference]:
    key = "issuer.refs"
    references: dict[str, IssuerReference] = {}
    for generation, given in reader.mapping(key).items():
        if generation not in generations:
            reader.refuse(
                key, f'has "{generation}", which is not one of meshtrust:anchors', "Add it there, or remove it here"
            )
            continue
        members = {"kind": "Issuer", "group": "cert-manager.io", **given} if isinstance(given, Mapping) else {}
        if sorted(members) != ["group", "kind", "name"] or not all(
            isinstance(value, str) and value for value in members.values()
        ):
            reader.refuse(
                key,
                f'has "{generation}" with {given!r}, which is no reference of an issuer',
                "Give its name, and its kind and group where they are not Issuer and cert-manager.io",
            )
            continue
        reference = IssuerReference(**members)
        if reference in references.values():
            reader.refuse(
                key,
                f'has "{generation}" with {reference}, which signs under another generation too',
                "Give each generation an issuer of its own: a switch to another is what makes cert-manager issue anew",
            )
        references[generation] = reference
    return references


def _read_linkerd_values(reader: Reader) -> dict[str, Any]:
    values = reader.mapping("linkerd.values")
    for path, reason in _OWNED_VALUES.items():
        node: Any = values
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            reader.refuse("linkerd.values", f"sets {path}, which is the program's own", f"Remove it; {reason}")
    return values


def _read_observability(reader: Reader, settings: Settings) -> Monitoring | None:
    issuer, linkerd, cert_manager = settings.issuer, settings.linkerd, settings.cert_manager
    labels = reader.mapping("observability.labels")
    for name, value in labels.items():
        if not isinstance(value, str):
            reader.refuse(
                "observability.labels", f"has {name} with {value!r}, not a text", f'Quote it: {name}: "{value}"'
            )
    monitoring = Monitoring(
        namespace=reader.namespace("observability.namespace"),
        labels=labels,
        cert_manager_namespace=cert_manager.namespace if cert_manager else reader.text("certManager.namespace"),
        watched=Watched(
            namespace=linkerd.namespace,
            by_cert_manager=issuer.mode in CERT_MANAGER_MODES,
            renewal=_renewal(issuer),
            leaf_lifetime=leaf_lifetime(linkerd.values),
        ),
    )
    return monitoring if reader.flag("observability.enabled") else None


def _renewal(issuer: IssuerPolicy) -> timedelta:
    """Return how much life the identity issuer has left when it is time to renew it."""
    if issuer.mode in CERT_MANAGER_MODES:
        return issuer.renew_before
    if issuer.mode == "pulumi":
        # A person does it.
        return min(timedelta(days=30), issuer.validity / 2)
    # A third party does it when it likes, but no later than a leaf's life before the end.
    return LEAF_LIFETIME
