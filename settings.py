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
from components.trust_bundle import TrustBundlePolicy, TrustManagerArgs
from components.webhook_certificates import WebhookPolicy
from meshtrust.deployment import Deployment
from meshtrust.evidence import leaf_lifetime
from meshtrust.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES, IssuerMode
from meshtrust.lint import LEAF_LIFETIME, lint_helm_values, lint_issuer_window, lint_trust_anchor
from meshtrust.pem import PemError, fingerprint, normalise_bundle, read_bundle
from meshtrust.private_key import key_to_pem, read_private_key
from meshtrust.rotation import Trust
from meshtrust.webhooks import CONTROL_PLANE
from reader import NAME, NAME_FORM, Reader

_STACK = re.compile(r"[-A-Za-z0-9_.]{1,100}(/[-A-Za-z0-9_.]{1,100}/[-A-Za-z0-9_.]{1,100})?")
_OVERRIDDEN = re.compile(r"(switch|retire)-[-a-z0-9]+")
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# A root that ends sooner cannot see a rotation through, and what it signs would outlive it.
_MINIMUM_ANCHOR_LIFE = timedelta(days=7)

# Helm values that carry the credentials. Set from outside, they would break the chain behind the program's back.
_OWNED_VALUES = {
    "identityTrustAnchorsPEM": "the bundle follows from meshtrust:anchors",
    "identityTrustDomain": "set meshtrust:trustDomain",
    "identity.externalCA": "set meshtrust:trustBundle.mode trust-manager",
    "identity.issuer.scheme": "the identity issuer is a Secret of type kubernetes.io/tls",
    "identity.issuer.tls": "the identity issuer is in Secret linkerd-identity-issuer",
}

_OWNED_WEBHOOKS = {
    f"{webhook.section}.{value}": "cert-manager issues the webhooks' certificates; or set meshtrust:webhooks.mode chart"
    for webhook in CONTROL_PLANE
    for value in ("externalSecret", "caBundle", "injectCaFrom", "injectCaFromSecret", "crtPEM", "keyPEM")
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
    """All that the stack of a cluster says, valid as a whole.

    Attributes:
        anchor_stack: The stack that owns the fleet's trust anchor; empty where this one owns its own.
        cluster: Which cluster.
        gate: What becomes of an unsafe step.
        anchor: What the trust anchor is made from.
        issuer: Who signs the identity issuer.
        cert_manager: What cert-manager is installed from; nothing where it is not installed by this stack.
        webhooks: Under whose authority the webhooks' certificates are; nothing where Linkerd's chart makes them.
        trust_bundle: Who publishes the bundle.
        linkerd: What of Linkerd is installed.
        observability: What watches it; nothing where nothing does.
    """

    anchor_stack: str
    cluster: ClusterSettings
    gate: GateSettings
    anchor: TrustAnchorArgs
    issuer: IssuerPolicy
    cert_manager: CertManagerArgs | None
    webhooks: WebhookPolicy | None
    trust_bundle: TrustBundlePolicy
    linkerd: LinkerdInstallation
    observability: Monitoring | None = None

    @property
    def chart_sources(self) -> dict[str, ChartSource]:
        """Where charts come from, by the key that says so."""
        sources = {"linkerd.charts": self.linkerd.charts}
        if self.linkerd.crds != self.linkerd.charts:
            sources["linkerd.crdsVersion"] = self.linkerd.crds
        if self.cert_manager:
            sources["certManager.charts"] = self.cert_manager.charts
        if self.trust_bundle.trust_manager:
            sources["trustBundle.charts"] = self.trust_bundle.trust_manager.charts
        return sources

    @property
    def needs_cert_manager(self) -> bool:
        """Whether anything that is declared is cert-manager's."""
        return self.issuer.mode in CERT_MANAGER_MODES or self.webhooks is not None

    @property
    def trust(self) -> Trust:
        """What the mesh is to trust, and what is to sign in it."""
        return Trust(anchors=self.anchor.generations, signer=self.anchor.signer)

    @property
    def guide_generation(self) -> str:
        """The generation that takes the names of Linkerd's guide, where none has them yet; empty where none may."""
        return self.anchor.signer if self.issuer.mode == "anchor" else ""

    def with_roots(self, roots: Mapping[str, str]) -> "Settings":
        """Return the same under roots that were made elsewhere, PEM by generation."""
        return replace(self, anchor=replace(self.anchor, certificates=roots))


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """All that an anchor stack says, valid as a whole.

    Attributes:
        anchor: What the trust anchor is made from.
        clusters: The stacks whose intermediates it signs.
    """

    anchor: TrustAnchorArgs
    clusters: tuple[str, ...]


def load_settings(last: Deployment) -> Settings | AnchorSettings:
    """Read the configuration of the stack that runs.

    Args:
        last: What it last deployed: some of what is not configured stays as it is.

    Raises:
        pulumi.RunError: Something is missing, unknown, or does not fit the rest. The message lists every finding, each
            with its key, its value and the fix; at that point nothing has been registered.
    """
    reader = Reader()
    is_anchor = reader.choice("role", ("cluster", "anchor")) == "anchor"
    settings = _read_anchor_stack(reader, last) if is_anchor else _read_cluster_stack(reader, last)
    reader.refuse_unknown()
    errors = [finding for finding in reader.findings if finding.severity == "error"]
    if errors:
        listed = "\n".join(f"  - {finding}" for finding in errors)
        msg = f"The configuration of stack {pulumi.get_stack()} cannot be deployed; nothing was changed.\n{listed}"
        raise pulumi.RunError(msg)
    for finding in reader.findings:
        pulumi.log.warn(str(finding))
    return settings


def _read_cluster_stack(reader: Reader, last: Deployment) -> Settings:
    settings = _read(reader, last)
    return replace(settings, observability=_read_observability(reader, settings))


def _read_anchor_stack(reader: Reader, last: Deployment) -> AnchorSettings:
    for key in ("context", "kubeconfig", "clusterUid"):
        reader.refuse_set(key, "and an anchor stack touches no cluster")
    reader.refuse_set("signer", "and in an anchor stack each cluster names its own")
    reader.refuse_set("anchorStack", "and this stack owns the trust anchor itself (meshtrust:role)")
    clusters = _read_stacks(reader, "clusters")
    # What only clusters use is read all the same: it has defaults, and must not be taken for unknown.
    cluster = _read(reader, last, for_cluster=False)
    _read_observability(reader, cluster)
    return AnchorSettings(anchor=cluster.anchor, clusters=clusters)


def _read_stacks(reader: Reader, key: str) -> tuple[str, ...]:
    names = reader.listing(key, '["east", "west"]', may_be_empty=True)
    for name in names:
        if not isinstance(name, str) or not _STACK.fullmatch(name):
            reader.refuse(key, f"holds {name!r}, no name of a stack", "Use its name, or organization/project/stack")
            return ()
    if len(set(names)) != len(names):
        reader.refuse(key, f"is {names}, which names a stack twice", "Name each stack once")
    return tuple(dict.fromkeys(names))


def _read(reader: Reader, last: Deployment, *, for_cluster: bool = True) -> Settings:
    trust_domain = reader.matching("trustDomain", _DOMAIN, "a DNS name in lower case")
    mode = cast("IssuerMode", reader.choice("issuer.mode", get_args(IssuerMode)))
    anchor_stack = _read_anchor_stack_name(reader, mode)
    anchor = _read_anchor(reader, mode, trust_domain, names_signer=for_cluster)
    webhooks = _read_webhooks(reader, mode, last)
    needs_cert_manager = mode in CERT_MANAGER_MODES or webhooks is not None
    timeout_seconds = reader.count("helm.timeoutSeconds")
    charts = reader.charts("linkerd", versions.LINKERD, ("linkerd-crds", "linkerd-control-plane"))
    if for_cluster:
        reader.refuse_set("clusters", "and only an anchor stack signs for others (meshtrust:role)")
    return Settings(
        anchor_stack=anchor_stack,
        cluster=ClusterSettings(
            context=reader.required("context") if for_cluster else "",
            kubeconfig=reader.text("kubeconfig"),
            uid=reader.text("clusterUid"),
        ),
        gate=_read_gate(reader),
        anchor=anchor,
        issuer=_read_issuer(reader, mode, trust_domain, anchor),
        cert_manager=_read_cert_manager(reader, timeout_seconds, needed=needs_cert_manager),
        webhooks=webhooks,
        trust_bundle=_read_trust_bundle(reader, timeout_seconds, has_cert_manager=needs_cert_manager),
        linkerd=LinkerdInstallation(
            namespace=reader.namespace("linkerd.namespace"),
            trust_domain=trust_domain,
            charts=charts,
            crds=replace(charts, version=reader.text("linkerd.crdsVersion") or charts.version),
            ha=reader.flag("linkerd.ha"),
            install_gateway_api=reader.flag("linkerd.installGatewayApi"),
            values=_read_linkerd_values(reader, _OWNED_VALUES if webhooks is None else _OWNED_VALUES | _OWNED_WEBHOOKS),
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


def _read_anchor_stack_name(reader: Reader, mode: IssuerMode) -> str:
    name = reader.matching("anchorStack", _STACK, "the name of a stack, or organization/project/stack")
    if not name:
        return ""
    for key in ("anchorCertificates", "anchorKeys"):
        reader.refuse_set(key, "and the roots come from the anchor stack (meshtrust:anchorStack)")
    if mode in SIGNING_MODES and mode != "intermediate":
        reader.refuse(
            "issuer.mode",
            f'is "{mode}", which takes the anchor\'s key, and that never leaves the anchor stack',
            "Use intermediate, external-issuer or external-secret",
        )
    return name


def _read_anchor(reader: Reader, mode: IssuerMode, trust_domain: str, *, names_signer: bool) -> TrustAnchorArgs:
    generations = _read_names(reader, "anchors", "2026")
    certificates = _read_anchor_certificates(reader, generations)
    keys = _read_anchor_keys(reader, certificates)
    signer = reader.optional_name("signer")
    if names_signer:
        signer = _choose_signer(reader, "signer", signer, "anchors", generations)
    if names_signer and signer in certificates and mode in SIGNING_MODES:
        _check_brought_signer(reader, mode, signer, certificates[signer], has_key=signer in keys)
    return TrustAnchorArgs(
        generations=generations,
        signer=signer,
        certificates=certificates,
        keys=keys,
        trust_domain=trust_domain,
        validity=timedelta(days=reader.count("anchor.validityDays")),
        protected=frozenset(_protectable(generations, signer)) if reader.flag("anchor.protect") else frozenset(),
    )


def _protectable(generations: tuple[str, ...], signer: str) -> tuple[str, ...]:
    """Return what may be protected: what signs here, or in an anchor stack whatever signs in some cluster."""
    return (signer,) if signer else generations


def _read_names(reader: Reader, key: str, example: str) -> tuple[str, ...]:
    # What the CLI sets by --path becomes a number where it looks like one: the name is what is written.
    value = [str(entry) if type(entry) is int else entry for entry in reader.listing(key, f'["{example}"]')]
    for entry in value:
        if not isinstance(entry, str) or not NAME.fullmatch(entry):
            reader.refuse(key, f"holds {entry!r}, which is no name", f'Use {NAME_FORM}, such as "{example}"')
            return ()
    if len(set(value)) != len(value):
        reader.refuse(key, f"is {value}, which names one twice", "Name each once")
    return tuple(dict.fromkeys(value))


def _choose_signer(reader: Reader, key: str, signer: str, of: str, names: tuple[str, ...]) -> str:
    """Return the one that signs: the one that is named, or the only one there is."""
    if not signer and len(names) == 1:
        return names[0]
    if names and signer not in names:
        known = ", ".join(names)
        if signer:
            reader.refuse(
                key,
                f'is "{signer}", which is not one of {reader.full_name(of)} ({known})',
                f"Name one of {known}",
            )
        else:
            reader.refuse(
                key, f"is not set, and there are several in {reader.full_name(of)} ({known})", "Name the one that signs"
            )
    return signer


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
        for finding in lint_trust_anchor(roots[0], datetime.now(UTC)):
            wrong = f'has "{generation}", which {finding.wrong}'
            # Linkerd trusts any certificate; a generation here is a root, and nothing above it is known.
            no_root = finding.rule is not None and finding.rule.id == "MT103"
            severity = "error" if no_root else finding.severity
            reader.findings.append(replace(finding, subject=reader.full_name(key), wrong=wrong, severity=severity))
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
        serial=reader.name("issuer.serial"),
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


def brought_roots(anchor: TrustAnchorArgs) -> dict[str, str]:
    """Return the fingerprints of the roots that were made elsewhere, by generation."""
    return {generation: fingerprint(read_bundle(pem)[0]) for generation, pem in anchor.certificates.items()}


def _read_webhooks(reader: Reader, issuer_mode: IssuerMode, last: Deployment) -> WebhookPolicy | None:
    authorities = _read_names(reader, "webhooks.authorities", "1")
    signer = reader.optional_name("webhooks.signer")
    policy = WebhookPolicy(
        authorities=authorities,
        signer=_choose_signer(reader, "webhooks.signer", signer, "webhooks.authorities", authorities),
        viz_namespace=reader.namespace("webhooks.vizNamespace"),
    )
    mode = reader.choice("webhooks.mode", ("", "chart", "cert-manager"))
    if not mode:
        by_cert_manager = last.webhooks.by_cert_manager if last.trust else issuer_mode in CERT_MANAGER_MODES
        mode = "cert-manager" if by_cert_manager else "chart"
    return policy if mode == "cert-manager" else None


def _read_trust_bundle(reader: Reader, timeout_seconds: int, *, has_cert_manager: bool) -> TrustBundlePolicy:
    args = TrustManagerArgs(
        namespace=reader.namespace("trustBundle.namespace"),
        charts=reader.charts("trustBundle", versions.TRUST_MANAGER, ("trust-manager",)),
        values=reader.mapping("trustBundle.values"),
        own_certificate=not has_cert_manager,
        timeout_seconds=timeout_seconds,
    )
    by_trust_manager = reader.choice("trustBundle.mode", ("helm", "trust-manager")) == "trust-manager"
    installs = reader.flag("trustBundle.install") and by_trust_manager
    return TrustBundlePolicy(by_trust_manager=by_trust_manager, trust_manager=args if installs else None)


def _read_linkerd_values(reader: Reader, owned: Mapping[str, str]) -> dict[str, Any]:
    values = reader.mapping("linkerd.values")
    for path, reason in owned.items():
        node: Any = values
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            reader.refuse("linkerd.values", f"sets {path}, which is the program's own", f"Remove it; {reason}")
            return values
    for finding in lint_helm_values(values):
        subject = f"{reader.full_name('linkerd.values')} {finding.subject}"
        reader.findings.append(replace(finding, subject=subject))
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
