"""The stack's configuration, read and checked as a whole; nothing else reads `pulumi.Config`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast, get_args

import pulumi
import pulumi_kubernetes as kubernetes

import versions
from components.cert_manager import CertManagerArgs
from components.charts import ChartSource
from components.identity_issuer import IssuerPolicy
from components.linkerd import LinkerdInstallation
from components.observability import Monitoring
from components.trust_anchor import TrustAnchorArgs
from components.trust_bundle import TrustBundlePolicy, TrustManagerArgs
from components.webhook_certificates import WebhookPolicy
from meshtrust.lint import leaf_of
from meshtrust.names import LINKERD_CONTROL_PLANE, LINKERD_CRDS
from meshtrust.pki.identity_suffix import IdentitySuffix
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES, IssuerMode
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.anchors import read_anchor
from program.configuration.issuer import read_issuer
from program.configuration.linkerd_values import read_linkerd_values
from program.configuration.observability import read_observability
from program.configuration.reader import Reader
from program.configuration.webhooks import read_webhooks

_STACK = re.compile(r"[-A-Za-z0-9_.]{1,100}(/[-A-Za-z0-9_.]{1,100}/[-A-Za-z0-9_.]{1,100})?")
_OVERRIDDEN = re.compile(r"(deploy|switch|retire|replace)-[-a-z0-9]+")
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

_KEY_ELSEWHERE = "keep it in a Secret on the cluster, which the values name"


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
        acknowledged: How what cannot be seen from the cluster was seen to, by the step's name and the object's kind and
            name: what trusts the new root at a switch may show a certificate under the old one at the retirement.
    """

    mode: str
    overrides: Mapping[str, str]
    acknowledged: Mapping[str, Mapping[str, str]]


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
    observability: Monitoring | None

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
    def identity_suffix(self) -> IdentitySuffix:
        """What the identities of the mesh are to end with."""
        return IdentitySuffix(namespace=self.linkerd.namespace, trust_domain=self.linkerd.trust_domain)

    @property
    def guide_generation(self) -> str:
        """The generation that takes the names of Linkerd's guide, where none has them yet; empty where none may."""
        return self.anchor.signer if self.issuer.mode == "anchor" else ""

    def with_roots(self, roots: Mapping[str, str]) -> "Settings":
        """Return the same under roots that were made elsewhere, PEM by generation."""
        return replace(self, anchor=replace(self.anchor, certificates=roots))

    def staying_at(self, trust: Trust) -> "Settings":
        """Return the same with other generations: those of the last deployment, where a run takes no step yet."""
        return replace(self, anchor=replace(self.anchor, generations=trust.anchors, signer=trust.signer))


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """All that an anchor stack says, valid as a whole.

    Attributes:
        anchor: What the trust anchor is made from.
        clusters: The stacks whose intermediates it signs.
    """

    anchor: TrustAnchorArgs
    clusters: tuple[str, ...]


def load_settings(last: StackOutputs) -> Settings | AnchorSettings:
    """Read the configuration of the stack that runs.

    Args:
        last: What it last deployed: some of what is not configured stays as it is.

    Raises:
        pulumi.RunError: Something is missing, unknown, or does not fit the rest. The message lists every finding, each
            with its key, its value and the fix; at that point nothing has been registered.
    """
    reader = Reader()
    is_anchor = reader.choice("role", ("cluster", "anchor")) == "anchor"
    settings = _read_anchor_stack(reader, last) if is_anchor else _read(reader, last)
    reader.refuse_unknown()
    errors = [finding for finding in reader.findings if finding.severity == "error"]
    if errors:
        listed = "\n".join(f"  - {finding}" for finding in errors)
        msg = f"The configuration of stack {pulumi.get_stack()} cannot be deployed; nothing was changed.\n{listed}"
        raise pulumi.RunError(msg)
    for finding in reader.findings:
        pulumi.log.warn(str(finding))
    return settings


def _read_anchor_stack(reader: Reader, last: StackOutputs) -> AnchorSettings:
    for key in ("context", "kubeconfig", "clusterUid"):
        reader.refuse_set(key, "and an anchor stack touches no cluster")
    reader.refuse_set("signer", "and in an anchor stack each cluster names its own")
    reader.refuse_set("anchorStack", "and this stack owns the trust anchor itself (meshtrust:role)")
    clusters = _read_stacks(reader, "clusters")
    # What only clusters use is read all the same: it has defaults, and must not be taken for unknown.
    return AnchorSettings(anchor=_read(reader, last, for_cluster=False).anchor, clusters=clusters)


def _read_stacks(reader: Reader, key: str) -> tuple[str, ...]:
    names = reader.listing(key, '["east", "west"]', may_be_empty=True)
    for name in names:
        if not isinstance(name, str) or not _STACK.fullmatch(name):
            reader.refuse(key, f"holds {name!r}, no name of a stack", "Use its name, or organization/project/stack")
            return ()
    if len(set(names)) != len(names):
        reader.refuse(key, f"is {names}, which names a stack twice", "Name each stack once")
    return tuple(dict.fromkeys(names))


def _read(reader: Reader, last: StackOutputs, *, for_cluster: bool = True) -> Settings:
    trust_domain = reader.matching("trustDomain", _DOMAIN, "a DNS name in lower case")
    mode = cast("IssuerMode", reader.choice("issuer.mode", get_args(IssuerMode)))
    anchor_stack = _read_anchor_stack_name(reader, mode)
    anchor = read_anchor(reader, mode, trust_domain, names_signer=for_cluster)
    webhooks = read_webhooks(reader, mode, last)
    needs_cert_manager = mode in CERT_MANAGER_MODES or webhooks is not None
    timeout_seconds = reader.count(
        "helm.timeoutSeconds", 86400, "proxies whose certificates nobody renews fail within a day"
    )
    charts = reader.charts("linkerd", versions.LINKERD, (LINKERD_CRDS, LINKERD_CONTROL_PLANE))
    if for_cluster:
        reader.refuse_set("clusters", "and only an anchor stack signs for others (meshtrust:role)")
    values = read_linkerd_values(reader, owns_webhooks=webhooks is not None)
    leaf = leaf_of(values, hidden=reader.is_encrypted("linkerd.values"))
    issuer = read_issuer(reader, mode, trust_domain, anchor, leaf)
    cert_manager = _read_cert_manager(reader, timeout_seconds, needed=needs_cert_manager)
    linkerd = LinkerdInstallation(
        namespace=reader.dns_label("linkerd.namespace"),
        trust_domain=trust_domain,
        charts=charts,
        crds=replace(charts, version=reader.text("linkerd.crdsVersion") or charts.version),
        ha=reader.flag("linkerd.ha"),
        install_gateway_api=reader.flag("linkerd.installGatewayApi"),
        values=values,
        timeout_seconds=timeout_seconds,
        encrypted=reader.is_encrypted("linkerd.values"),
    )
    return Settings(
        anchor_stack=anchor_stack,
        cluster=ClusterSettings(
            context=reader.required("context") if for_cluster else "",
            kubeconfig=reader.kubeconfig("kubeconfig") if for_cluster else "",
            uid=reader.text("clusterUid"),
        ),
        gate=_read_gate(reader),
        anchor=anchor,
        issuer=issuer,
        cert_manager=cert_manager,
        webhooks=webhooks,
        trust_bundle=_read_trust_bundle(reader, timeout_seconds, has_cert_manager=needs_cert_manager),
        linkerd=linkerd,
        observability=read_observability(reader, issuer, linkerd, cert_manager),
    )


def _read_cert_manager(reader: Reader, timeout_seconds: int, *, needed: bool) -> CertManagerArgs | None:
    args = CertManagerArgs(
        namespace=reader.dns_label("certManager.namespace"),
        charts=reader.charts("certManager", versions.CERT_MANAGER, ("cert-manager",)),
        values=reader.helm_values("certManager.values", _KEY_ELSEWHERE),
        timeout_seconds=timeout_seconds,
        encrypted=reader.is_encrypted("certManager.values"),
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
    acknowledged: dict[str, dict[str, str]] = {}
    for step, subjects in reader.mapping("gate.acknowledged").items():
        if not _OVERRIDDEN.fullmatch(step) or not isinstance(subjects, Mapping):
            reader.refuse(
                "gate.acknowledged",
                f'has "{step}", which is no step with names under it',
                "Set it by the command in the refusal of the step, which names that and what is acknowledged",
            )
            continue
        for subject, reason in subjects.items():
            if not isinstance(reason, str) or not reason.strip():
                fix = f"Say how it was seen to that {step} does not cut it off"
                reader.refuse("gate.acknowledged", f'has "{subject}" without a reason', fix)
            acknowledged.setdefault(step, {})[subject] = str(reason).strip()
    return GateSettings(mode=mode, overrides=overrides, acknowledged=acknowledged)


def _read_anchor_stack_name(reader: Reader, mode: IssuerMode) -> str:
    name = reader.matching(
        "anchorStack", _STACK, "the name of a stack, or organization/project/stack", may_be_empty=True
    )
    # Only `meshtrust fleet` uses it. Mirrored Services have it in their names.
    reader.dns_label("linkName", may_be_empty=True)
    if not name:
        reader.refuse_set("linkName", "and only a cluster of a fleet (meshtrust:anchorStack) is known by it")
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


def _read_trust_bundle(reader: Reader, timeout_seconds: int, *, has_cert_manager: bool) -> TrustBundlePolicy:
    args = TrustManagerArgs(
        namespace=reader.dns_label("trustBundle.namespace"),
        charts=reader.charts("trustBundle", versions.TRUST_MANAGER, ("trust-manager",)),
        values=reader.helm_values("trustBundle.values", _KEY_ELSEWHERE),
        own_certificate=not has_cert_manager,
        timeout_seconds=timeout_seconds,
        encrypted=reader.is_encrypted("trustBundle.values"),
    )
    by_trust_manager = reader.choice("trustBundle.mode", ("helm", "trust-manager")) == "trust-manager"
    installs = reader.flag("trustBundle.install") and by_trust_manager
    return TrustBundlePolicy(by_trust_manager=by_trust_manager, trust_manager=args if installs else None)
