"""The stack's configuration, read and checked as a whole; nothing else reads `pulumi.Config`."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast, get_args

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.runtime.config import CONFIG, get_config_env

import versions
from components.cert_manager import CertManagerArgs
from components.charts import ChartSource
from components.identity_issuer import IssuerMode, IssuerPolicy
from components.linkerd import LinkerdInstallation
from components.trust_anchor import TrustAnchorArgs
from meshtrust.durations import parse_duration
from meshtrust.lint import Finding, lint_issuer_window, lint_trust_anchor
from meshtrust.pem import PemError, normalise_bundle, read_bundle

T = TypeVar("T")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_GENERATION = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# Helm values that carry the credentials. Set from outside, they would break the chain behind the program's back.
_OWNED_VALUES = {
    "identityTrustAnchorsPEM": "the bundle follows from meshtrust:anchors",
    "identityTrustDomain": "set meshtrust:trustDomain",
    "identity.externalCA": "the bundle is part of the release",
    "identity.issuer.scheme": "the identity issuer is cert-manager's kubernetes.io/tls Secret",
    "identity.issuer.tls": "cert-manager issues the identity issuer",
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
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a stack says, valid as a whole."""

    cluster: ClusterSettings
    anchor: TrustAnchorArgs
    issuer: IssuerPolicy
    cert_manager: CertManagerArgs
    linkerd: LinkerdInstallation

    @property
    def chart_sources(self) -> dict[str, ChartSource]:
        """Where charts come from, by the key that says so."""
        return {"certManager.charts": self.cert_manager.charts, "linkerd.charts": self.linkerd.charts}

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
        reader = _Reader()
        settings = _read(reader)
        reader.refuse_unknown()
        errors = [finding for finding in reader.findings if finding.severity == "error"]
        if errors:
            listed = "\n".join(f"  - {finding}" for finding in errors)
            msg = f"The configuration of stack {pulumi.get_stack()} cannot be deployed; nothing was changed.\n{listed}"
            raise pulumi.RunError(msg)
        for finding in reader.findings:
            pulumi.log.warn(str(finding))
        return settings


class _Reader:
    """Reads key after key and gathers what is wrong with them, so that one run shows every mistake."""

    def __init__(self) -> None:
        self._config = pulumi.Config()
        self._read: set[str] = set()
        self.findings: list[Finding] = []

    def full_name(self, key: str) -> str:
        return f"{self._config.name}:{key}"

    def refuse(self, key: str, wrong: str, fix: str) -> None:
        self.findings.append(Finding(subject=self.full_name(key), wrong=wrong, fix=fix))

    def _get(self, key: str, getter: Callable[[str], T | None], expected: str, fallback: T) -> T:
        self._read.add(key)
        try:
            value = getter(key)
        except (pulumi.ConfigTypeError, ValueError):
            self.refuse(key, f"is {self._config.get(key)!r}, not {expected}", f"Set it to {expected}")
            return fallback
        if value is None:
            fix = f"Run: pulumi config set {key} <value>" if isinstance(fallback, str) else f"Set it to {expected}"
            self.refuse(key, "is not set", fix)
            return fallback
        return value

    def is_set(self, key: str) -> bool:
        return self._config.get(key) is not None

    def text(self, key: str) -> str:
        return self._get(key, self._config.get, "a text", "")

    def required(self, key: str) -> str:
        value = self.text(key)
        if not value and self.is_set(key):
            self.refuse(key, "is empty", f"Run: pulumi config set {key} <value>")
        return value

    def flag(self, key: str) -> bool:
        return self._get(key, self._config.get_bool, "true or false", False)

    def count(self, key: str) -> int:
        value = self._get(key, self._config.get_int, "a whole number", 1)
        if value < 1:
            self.refuse(key, f"is {value}", "Set it to 1 or more")
            return 1
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        fallback: dict[str, Any] = {}
        return self._structure(key, dict, "a map of names to values", fallback)

    def listing(self, key: str) -> list[Any]:
        fallback: list[Any] = []
        value = self._structure(key, list, 'a list, such as ["2026"]', fallback)
        if not value and value is not fallback:
            self.refuse(key, "is empty", 'Set it to a list, such as ["2026"]')
        return value

    def _structure(self, key: str, kind: type[T], expected: str, fallback: T) -> T:
        value: object = self._get(key, self._config.get_object, expected, fallback)
        if isinstance(value, kind):
            return value
        self.refuse(key, f"is {value!r}, not {expected}", f"Set it to {expected}")
        return fallback

    def duration(self, key: str) -> timedelta | None:
        """Return a duration, or nothing where it cannot be read, so that no rule is applied to a made-up one."""
        text = self.text(key)
        try:
            return parse_duration(text)
        except ValueError as error:
            self.refuse(key, f"cannot be read: {error}", 'Write hours, minutes and seconds, such as "48h" or "1h30m"')
            return None

    def matching(self, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = self.text(key)
        if value and not pattern.fullmatch(value):
            self.refuse(key, f'is "{value}", not {form}', f"Use {form}")
        return value

    def namespace(self, key: str) -> str:
        return self.matching(key, _LABEL, "a DNS label (lower-case letters, digits and hyphens, at most 63)")

    def charts(self, prefix: str, pinned: str, charts: tuple[str, ...]) -> ChartSource:
        location = self.text(f"{prefix}.charts")
        source = ChartSource(location=location, version=self.text(f"{prefix}.version") or pinned)
        for chart in source.missing(charts):
            self.refuse(
                f"{prefix}.charts",
                f'is "{location}", where there is no {chart}/Chart.yaml',
                "Name a directory that holds the chart, a Helm repository (https://) or an OCI registry (oci://)",
            )
        return source

    def refuse_unknown(self) -> None:
        """Refuse keys that nothing has read: a misspelt key would otherwise leave its default in force unseen."""
        prefix = self.full_name("")
        present = {key.removeprefix(prefix) for key in {**CONFIG.get(), **get_config_env()} if key.startswith(prefix)}
        for key in sorted(present - self._read):
            section = [known for known in sorted(self._read) if known.startswith(f"{key}.")]
            if section:
                self.refuse(
                    key,
                    "is a map, and the keys of this program are flat",
                    f"Write {', '.join(self.full_name(known) for known in section)} (pulumi config set without --path)",
                )
            elif re.fullmatch(r"(issuer|anchor)\.?.*(algorithm|size|curve|key).*", key, re.IGNORECASE):
                self.refuse(
                    key,
                    f"is {self._config.get(key)!r}, and that is no matter of choice: Linkerd takes ECDSA P-256",
                    f"Remove it: pulumi config rm {key}",
                )
            else:
                near = difflib.get_close_matches(key, self._read, n=1)
                hint = f"Did you mean {self.full_name(near[0])}? " if near else ""
                self.refuse(key, "is no key of this program", f"{hint}Remove it: pulumi config rm {key}")


def _read(reader: _Reader) -> Settings:
    trust_domain = reader.matching("trustDomain", _DOMAIN, "a DNS name in lower case")
    anchor = _read_anchor(reader, trust_domain)
    timeout_seconds = reader.count("helm.timeoutSeconds")
    return Settings(
        cluster=ClusterSettings(
            context=reader.required("context"),
            kubeconfig=reader.text("kubeconfig"),
            uid=reader.text("clusterUid"),
        ),
        anchor=anchor,
        issuer=_read_issuer(reader, trust_domain, anchor.validity),
        cert_manager=CertManagerArgs(
            namespace=reader.namespace("certManager.namespace"),
            charts=reader.charts("certManager", versions.CERT_MANAGER, ("cert-manager",)),
            values=reader.mapping("certManager.values"),
            timeout_seconds=timeout_seconds,
        ),
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


def _read_anchor(reader: _Reader, trust_domain: str) -> TrustAnchorArgs:
    generations = _read_generations(reader)
    certificates = _read_anchor_certificates(reader, generations)
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
    if signer in certificates:
        reader.refuse(
            "signer",
            f'is "{signer}", whose root was made elsewhere (meshtrust:anchorCertificates): its key is not here',
            "Name a generation that this program makes",
        )
    return TrustAnchorArgs(
        generations=generations,
        signer=signer,
        certificates=certificates,
        trust_domain=trust_domain,
        validity=timedelta(days=reader.count("anchor.validityDays")),
        protect=reader.flag("anchor.protect"),
    )


def _read_generations(reader: _Reader) -> tuple[str, ...]:
    value = reader.listing("anchors")
    for entry in value:
        if not isinstance(entry, str) or not _GENERATION.fullmatch(entry):
            reader.refuse(
                "anchors",
                f"holds {entry!r}, no name of a generation",
                'Use lower-case letters, digits and hyphens (at most 32), in quotes, such as "2026"',
            )
            return ()
    if len(set(value)) != len(value):
        reader.refuse("anchors", f"is {value}, which names a generation twice", "Name each generation once")
    return tuple(dict.fromkeys(value))


def _read_anchor_certificates(reader: _Reader, generations: tuple[str, ...]) -> dict[str, str]:
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
        certificates[generation] = normalise_bundle(str(pem))
    return certificates


def _read_issuer(reader: _Reader, trust_domain: str, anchor_validity: timedelta) -> IssuerPolicy:
    modes = get_args(IssuerMode)
    mode = reader.text("issuer.mode")
    if mode not in modes:
        reader.refuse("issuer.mode", f'is "{mode}"', f"Use one of {', '.join(modes)}")
    duration, renew_before = reader.duration("issuer.duration"), reader.duration("issuer.renewBefore")
    if duration is not None and renew_before is not None:
        for finding in lint_issuer_window(duration, renew_before, anchor_validity):
            reader.findings.append(replace(finding, subject=reader.full_name(finding.subject)))
    return IssuerPolicy(
        mode=cast("IssuerMode", mode),
        trust_domain=trust_domain,
        anchor_validity=anchor_validity,
        duration=duration or timedelta(),
        renew_before=renew_before or timedelta(),
    )


def _read_linkerd_values(reader: _Reader) -> dict[str, Any]:
    values = reader.mapping("linkerd.values")
    for path, reason in _OWNED_VALUES.items():
        node: Any = values
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            reader.refuse("linkerd.values", f"sets {path}, which is the program's own", f"Remove it; {reason}")
    return values
