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
from meshtrust.rotation import Trust

T = TypeVar("T")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_GENERATION = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_OVERRIDDEN = re.compile(r"(switch|retire)-[-a-z0-9]+")
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
    """All that a stack says, valid as a whole."""

    cluster: ClusterSettings
    gate: GateSettings
    anchor: TrustAnchorArgs
    issuer: IssuerPolicy
    cert_manager: CertManagerArgs
    linkerd: LinkerdInstallation

    @property
    def chart_sources(self) -> dict[str, ChartSource]:
        """Where charts come from, by the key that says so."""
        return {"certManager.charts": self.cert_manager.charts, "linkerd.charts": self.linkerd.charts}

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
    """Reads key after key and gathers what is wrong with them, so that one run shows every mistake.

    A key with a dot is a path, as in Pulumi.yaml: `issuer.mode` is the member `mode` of the map `meshtrust:issuer`.
    """

    def __init__(self) -> None:
        self._config = pulumi.Config()
        self._read: set[str] = set()
        self.findings: list[Finding] = []

    def full_name(self, key: str) -> str:
        return f"{self._config.name}:{key}"

    def refuse(self, key: str, wrong: str, fix: str) -> None:
        self.findings.append(Finding(subject=self.full_name(key), wrong=wrong, fix=fix))

    def _structure(self, name: str) -> Any:
        """Return a key that holds a map or a list; text that is neither is returned as it is."""
        try:
            return self._config.get_object(name)
        except pulumi.ConfigTypeError:
            return self._config.get(name)

    def _get(self, key: str) -> Any:
        self._read.add(key)
        name, _, member = key.partition(".")
        if not member:
            return self._config.get(name)
        section = self._structure(name)
        return section.get(member) if isinstance(section, Mapping) else None

    def _expect(self, key: str, value: Any, expected: str, fallback: T, convert: Callable[[Any], T | None]) -> T:
        if value is None:
            self.refuse(key, "is not set", f"Run: {_set_command(key)}")
            return fallback
        converted = convert(value)
        if converted is None:
            self.refuse(key, f"is {value!r}, not {expected}", f"Set it to {expected}")
            return fallback
        return converted

    def text(self, key: str) -> str:
        return self._expect(key, self._get(key), "a text", "", lambda value: value if isinstance(value, str) else None)

    def required(self, key: str) -> str:
        value = self.text(key)
        if not value and self._get(key) is not None:
            self.refuse(key, "is empty", f"Run: {_set_command(key)}")
        return value

    def flag(self, key: str) -> bool:
        return self._expect(
            key,
            self._get(key),
            "true or false",
            False,
            lambda value: {"true": True, "false": False}.get(str(value).lower()),
        )

    def count(self, key: str) -> int:
        def convert(value: Any) -> int | None:
            return int(value) if re.fullmatch(r"-?\d+", str(value)) else None

        value = self._expect(key, self._get(key), "a whole number", 1, convert)
        if value < 1:
            self.refuse(key, f"is {value}", "Set it to 1 or more")
            return 1
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        empty: dict[str, Any] = {}
        value = self._get(key) if "." in key else self._structure(key)
        self._read.add(key)
        return self._expect(key, value, "a map", empty, lambda value: value if isinstance(value, dict) else None)

    def listing(self, key: str) -> list[Any]:
        empty: list[Any] = []
        self._read.add(key)
        expected = 'a list, such as ["2026"]'
        value = self._expect(
            key, self._structure(key), expected, empty, lambda value: value if isinstance(value, list) else None
        )
        if not value and value is not empty:
            self.refuse(key, "is empty", f"Set it to {expected}")
        return value

    def duration(self, key: str) -> timedelta | None:
        """Return a duration, or nothing where it cannot be read, so that no rule is applied to a made-up one."""
        try:
            return parse_duration(self.text(key))
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

    def charts(self, section: str, pinned: str, charts: tuple[str, ...]) -> ChartSource:
        location = self.text(f"{section}.charts")
        source = ChartSource(location=location, version=self.text(f"{section}.version") or pinned)
        for chart in source.missing(charts):
            self.refuse(
                f"{section}.charts",
                f'is "{location}", where there is no {chart}/Chart.yaml',
                "Name a directory that holds the chart, a Helm repository (https://) or an OCI registry (oci://)",
            )
        return source

    def refuse_unknown(self) -> None:
        """Refuse keys that nothing has read: a misspelt key would otherwise leave its default in force unseen."""
        prefix = self.full_name("")
        for name in sorted({**CONFIG.get(), **get_config_env()}):
            if name.startswith(prefix):
                self._refuse_unknown(name.removeprefix(prefix))

    def _refuse_unknown(self, name: str) -> None:
        if "." in name and name in self._read:
            section, member = name.split(".")
            self.refuse(
                name,
                "is written as one name, and is a path",
                f"Write {member} below {self.full_name(section)}: {_set_command(name)}, then pulumi config rm {name}",
            )
        elif any(known.startswith(f"{name}.") for known in self._read):
            section = self._structure(name)
            if isinstance(section, Mapping):
                for member in sorted(section.keys() - {known.partition(".")[2] for known in self._read}):
                    self._refuse_key(f"{name}.{member}", section[member])
            else:
                self.refuse(
                    name, f"is {section!r}, not a map", "Write its members below it, as docs/configuration.md has"
                )
        elif name not in self._read:
            self._refuse_key(name, self._config.get(name))

    def _refuse_key(self, key: str, value: Any) -> None:
        remove = f"Remove it: pulumi config rm {'--path ' if '.' in key else ''}{key}"
        if re.fullmatch(r"(issuer|anchor)\..*(algorithm|size|curve|key).*", key, re.IGNORECASE):
            wrong = f"is {value!r}, and that is no matter of choice: Linkerd takes ECDSA P-256"
            self.refuse(key, wrong, remove)
        else:
            near = difflib.get_close_matches(key, self._read, n=1)
            hint = f"Did you mean {self.full_name(near[0])}? " if near else ""
            self.refuse(key, "is no key of this program", hint + remove)


def _set_command(key: str) -> str:
    return f"pulumi config set {'--path ' if '.' in key else ''}{key} <value>"


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
        gate=_read_gate(reader),
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


def _read_gate(reader: _Reader) -> GateSettings:
    mode = reader.text("gate.mode")
    if mode not in ("enforce", "warn"):
        reader.refuse("gate.mode", f'is "{mode}"', "Use one of enforce, warn")
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
        if normalise_bundle(str(pem)) in certificates.values():
            reader.refuse(key, f'has "{generation}", whose root has another name too', "Name each root once")
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
