"""The stack's configuration, read and checked as a whole; nothing else reads `pulumi.Config`."""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, get_origin

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from components.cert_manager import CertManagerArgs
from components.charts import ChartSource
from components.identity_issuer import IssuerPolicy
from components.linkerd import LinkerdInstallation
from components.observability import Monitoring
from components.trust_anchor import TrustAnchorArgs
from components.trust_bundle import TrustBundlePolicy, TrustManagerArgs
from components.webhook_certificates import WebhookPolicy
from meshtrust.cluster.connection.access import ClusterAccess, kubeconfig_output
from meshtrust.linkerd.external_peers import FleetPeers
from meshtrust.pki.identity_suffix import IdentitySuffix
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.outputs import StackOutputs
from program.configuration import anchors, charts, issuer, linkerd_values, roles
from program.configuration.anchors import leave_out_retired, trust_anchor
from program.configuration.issuer import issuer_policy
from program.configuration.model import (
    FIELDS,
    ChartSection,
    Configuration,
    GateSection,
    RotationSection,
    UnusableError,
    is_section,
)
from program.configuration.observability import monitoring
from program.configuration.report import PREFIX, Report

# Checks on several keys. Each runs if the keys that it reads are valid by themselves.
_CHECKS = (
    roles.check_cluster,
    roles.check_kubeconfig,
    roles.check_role,
    roles.check_fleet,
    roles.check_fleet_mode,
    anchors.check_signer,
    anchors.check_signing_authority,
    anchors.check_external_roots,
    anchors.check_external_keys,
    anchors.check_external_signer,
    issuer.check_lifetime,
    issuer.check_references,
    linkerd_values.check_linkerd_values,
    charts.check_directories,
    charts.check_names,
    charts.check_namespaces,
    charts.check_license,
)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The cluster: the way to it, and its UID if it is pinned."""

    access: ClusterAccess
    uid: str

    def provider_args(self, uid: str | None) -> kubernetes.ProviderArgs:
        """Return the arguments of the Kubernetes provider for the cluster of a UID, which may be unknown offline."""
        inputs = self.access.provider_inputs()
        return kubernetes.ProviderArgs(
            kubeconfig=pulumi.Output.secret(inputs["kubeconfig"]) if self.access.content else inputs["kubeconfig"],
            context=inputs.get("context"),
            # A renamed context or a moved API server is the same cluster still, and nothing on it is replaced.
            cluster_identifier=uid,
            # A run that was killed after it made an object, and before it said so, is resumed by the next.
            upsert_existing_objects=True,
            # A Secret takes another content in place: replaced, it would be gone for a moment.
            enable_secret_mutable=True,
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that the stack of a cluster says, valid as a whole.

    Attributes:
        anchor_stack: The stack that owns the fleet's trust anchor; empty where this one owns its own.
        cluster: Which cluster.
        rotation: How a run treats a goal, and what it restarts.
        gate: How to treat an unsafe step.
        anchor: What the trust anchor is made from.
        issuer: Who signs the identity issuer.
        cert_manager: What cert-manager is installed from; None if this stack does not install it.
        webhooks: The authorities of the webhooks' certificates; None if Linkerd's chart makes them.
        trust_bundle: Who publishes the bundle.
        linkerd: What of Linkerd is installed.
        observability: The objects that watch it; None if there are none.
        link_name: What Links in other clusters call it; empty if that is the stack's name.
        fleet: The peers that its fleet takes care of; None if it is in none.
    """

    anchor_stack: str
    cluster: ClusterSettings
    rotation: RotationSection
    gate: GateSection
    anchor: TrustAnchorArgs
    issuer: IssuerPolicy
    cert_manager: CertManagerArgs | None
    webhooks: WebhookPolicy | None
    trust_bundle: TrustBundlePolicy
    linkerd: LinkerdInstallation
    observability: Monitoring | None
    link_name: str = ""
    fleet: FleetPeers | None = None

    @property
    def chart_sources(self) -> dict[str, ChartSource]:
        """Sources of charts, by the key that names each."""
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
        """The generations that the mesh is to trust and to be signed by."""
        return Trust(anchors=self.anchor.generations, signer=self.anchor.signer)

    @property
    def identity_suffix(self) -> IdentitySuffix:
        """The configured end of the identities of the mesh."""
        return IdentitySuffix(namespace=self.linkerd.namespace, trust_domain=self.linkerd.trust_domain)

    @property
    def default_named_generation(self) -> str:
        """The generation that takes the names of Linkerd's guide, where none has them yet; empty where none may."""
        return self.anchor.signer if self.issuer.mode == "anchor" else ""

    def with_fleet(self, roots: Mapping[str, str], clusters: Collection[str]) -> "Settings":
        """Return the same in a fleet.

        Args:
            roots: The fleet's roots, PEM by generation.
            clusters: What Links call its clusters.
        """
        anchor = replace(self.anchor, certificates=roots)
        peers = FleetPeers(clusters=frozenset(clusters), gateways=frozenset(self.gate.fleet_gateways))
        return replace(self, anchor=anchor, fleet=peers)


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """All that an anchor stack says, valid as a whole.

    Attributes:
        anchor: What the trust anchor is made from.
        clusters: The stacks whose intermediates it signs.
        rotation: How a run treats a goal.
    """

    anchor: TrustAnchorArgs
    clusters: tuple[str, ...]
    rotation: RotationSection


def load_settings(last: StackOutputs) -> Settings | AnchorSettings:
    """Read the configuration of the stack that runs.

    Args:
        last: The last deployment: who makes the webhooks' certificates stays as it was unless it is configured.

    Raises:
        pulumi.RunError: Something is missing, unknown, or does not fit the rest. The message lists every finding, each
            with its key, its value and the fix; at that point nothing has been registered.
    """
    given = _read()
    webhooks = given["webhooks"]
    if isinstance(webhooks, dict) and webhooks.get("mode") == "" and last.trust:
        webhooks["mode"] = "cert-manager" if last.webhooks.by_cert_manager else "chart"
    if isinstance(given["linkerd"], dict) and last.trust:
        # A release has no other name, and an upgrade from one distribution to the other is one of the same release.
        for key, name in zip(("crdsRelease", "controlPlaneRelease"), last.linkerd_releases, strict=True):
            given["linkerd"][key] = given["linkerd"].get(key) or name
    encrypted = frozenset(name for name in given if is_config_secret(PREFIX + name))
    report = Report(FIELDS, given, encrypted, deployed=last.anchors)
    leave_out_retired(given, last, report)
    configuration = Configuration.model_validate(given, context=report)
    for check in _CHECKS:
        with suppress(UnusableError):
            check(configuration, report)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        listed = "\n".join(f"  - {finding}" for finding in errors)
        msg = f"The configuration of stack {pulumi.get_stack()} cannot be deployed; nothing was changed.\n{listed}"
        raise pulumi.RunError(msg)
    for finding in report.findings:
        pulumi.log.warn(str(finding))
    if configuration.role == "anchor":
        return AnchorSettings(
            anchor=trust_anchor(configuration), clusters=configuration.clusters, rotation=configuration.rotation
        )
    return _settings(configuration, report)


def _read() -> dict[str, Any]:
    """Return the stack's configuration by name; of each section at least an empty map, so that each key is missed."""
    config = pulumi.Config("meshtrust")
    fields = {str(field.alias): field.annotation for field in Configuration.model_fields.values()}
    given: dict[str, Any] = {alias: {} for alias, kind in fields.items() if is_section(kind)}
    names = {name.removeprefix(PREFIX) for name in {**CONFIG.get(), **get_config_env()} if name.startswith(PREFIX)}
    for name in sorted(names | fields.keys()):
        value = config.get(name)
        if value is not None:
            given[name] = value if _is_text(fields.get(name)) else _structure(value)
    return given


def _is_text(kind: Any) -> bool:
    return kind is str or get_origin(kind) is Literal


def _structure(text: str) -> Any:
    """Return the map or the list that a value is; a text that is neither is returned as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(configuration: Configuration, report: Report) -> Settings:
    """Return the settings of a cluster's stack, whose configuration is valid."""
    policy = issuer_policy(configuration)
    linkerd, by_trust_manager = configuration.linkerd, configuration.trust_bundle.mode == "trust-manager"
    has_cert_manager = configuration.needs_cert_manager
    webhooks = configuration.webhooks

    def release(section: ChartSection) -> dict[str, Any]:
        return {
            "namespace": section.namespace,
            "charts": section.source,
            "values": section.values,
            "timeout_seconds": configuration.helm.timeout_seconds,
            "encrypted": report.is_encrypted(section.section),
        }

    return Settings(
        anchor_stack=configuration.anchor_stack,
        cluster=ClusterSettings(
            access=ClusterAccess(
                context=configuration.context,
                kubeconfig=configuration.kubeconfig,
                source=kubeconfig_output(configuration.cluster.from_stack, configuration.cluster.output),
            ),
            uid=configuration.cluster_uid,
        ),
        rotation=configuration.rotation,
        gate=configuration.gate,
        anchor=trust_anchor(configuration),
        issuer=policy,
        cert_manager=CertManagerArgs(**release(configuration.cert_manager))
        if configuration.cert_manager.install and has_cert_manager
        else None,
        webhooks=WebhookPolicy(
            authorities=webhooks.authorities,
            signer=configuration.signing_authority,
            viz_namespace=webhooks.viz_namespace,
        )
        if configuration.webhooks_by_cert_manager
        else None,
        trust_bundle=TrustBundlePolicy(
            by_trust_manager=by_trust_manager,
            trust_manager=TrustManagerArgs(**release(configuration.trust_bundle), own_certificate=not has_cert_manager)
            if configuration.trust_bundle.install and by_trust_manager
            else None,
        ),
        linkerd=LinkerdInstallation(
            **release(linkerd),
            releases=linkerd.releases,
            license=linkerd.license,
            license_secret=linkerd.license_secret,
            trust_domain=configuration.trust_domain,
            crds=replace(linkerd.source, version=linkerd.crds_version or linkerd.source.version),
            ha=linkerd.ha,
            install_gateway_api=linkerd.install_gateway_api,
        ),
        observability=monitoring(configuration, policy),
        link_name=configuration.link_name,
    )
