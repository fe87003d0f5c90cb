"""Every key of the configuration, with its type, its choices and its range; Pulumi.yaml has the defaults.

A key with a dot is a path, as in Pulumi.yaml: `issuer.mode` is the member `mode` of the map `meshtrust:issuer`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeGuard

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

import versions
from components.charts import ChartSource
from meshtrust.names import (
    LINKERD_CONTROL_PLANE,
    LINKERD_CRDS,
    LINKERD_ENTERPRISE_CONTROL_PLANE,
    LINKERD_ENTERPRISE_CRDS,
)
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, IssuerMode
from meshtrust.pki.private_key import find_private_keys
from meshtrust.rotation.goal import RotationMode
from program.configuration import field_types
from program.configuration.report import Report


class UnusableError(Exception):
    """A key that a check needs was refused, so that the check has nothing to say yet."""


class Section(BaseModel):
    """Keys of one map, checked one by one.

    A key that is refused is reported to the context, a `Report`, and left out of the instance: to read it raises
    `UnusableError`. So the checks on several keys run on those that are valid, and one run shows every mistake.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, alias_generator=to_camel)
    section: ClassVar[str] = ""
    """Name of the map; empty for the top."""

    @field_validator("*")
    @classmethod
    def _keep(cls, value: Any, info: ValidationInfo[Report]) -> Any:
        info.context.valid[cls.key_of(str(info.field_name))] = value
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _report(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo[Any]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            info.context.add_errors(cls.section, error)
            keys = {to_camel(name): cls.key_of(name) for name in cls.model_fields}
            valid = info.context.valid
            return cls.model_construct(**{name: valid[key] for name, key in keys.items() if key in valid})

    @classmethod
    def key_of(cls, field: str) -> str:
        """Return the key of a field, such as ``issuer.renewBefore``."""
        return f"{cls.section}.{to_camel(field)}" if cls.section else to_camel(field)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise UnusableError(name)
            return super().__getattr__(name)


class AnchorSection(Section):
    """Roots of the trust anchor that are made from now on."""

    section = "anchor"

    validity_days: field_types.Days
    protect: field_types.Flag


class ClusterSection(Section):
    """The stack that made the cluster, and its output that is the kubeconfig."""

    section = "cluster"

    from_stack: field_types.OptionalStack
    output: field_types.Text


class RotationSection(Section):
    """Behaviour of a run whose goal is not deployed yet.

    Attributes:
        mode: ``reconcile`` takes the next safe step towards it, or waits; ``step`` refuses a goal that is more than one
            step away, and a step that is not safe.
        restart: ``workloads`` restarts what lacks an anchor once Linkerd is ready; ``none`` leaves that to others.
        restart_timeout_seconds: Seconds after which a run begins no further restart.
    """

    section = "rotation"

    mode: RotationMode
    restart: Literal["none", "workloads"]
    restart_timeout_seconds: field_types.Seconds


class GateSection(Section):
    """Treatment of a step that the cluster is not ready for.

    Attributes:
        mode: ``enforce`` refuses it, ``warn`` only warns.
        overrides: Reasons for which a step goes ahead although it was refused, by the step's name.
        acknowledged: How a person made sure of what the cluster does not show, by the step's name and the object's kind
            and name: what trusts the new root at a switch may show a certificate under the old one at the retirement.
        fleet_gateways: In a fleet, the kind and name of each gateway to which none but its clusters connect.
    """

    section = "gate"

    mode: Literal["enforce", "warn"]
    overrides: field_types.Overrides
    acknowledged: field_types.Acknowledged
    fleet_gateways: field_types.Gateways


class IssuerSection(Section):
    """The signer of the identity issuer, its lifetime, and when it is renewed."""

    section = "issuer"

    mode: IssuerMode
    duration: field_types.GoDuration
    renew_before: field_types.GoDuration
    refs: field_types.References
    serial: field_types.Name
    validity_days: field_types.Days


class ChartSection(Section):
    """Charts that a Helm release is installed from, and its values.

    Class attributes:
        pinned: Version of the charts unless the section names another.
        names: Names of the charts.
        instead_of_keys: What to do instead of giving a private key in the values.
    """

    pinned: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    instead_of_keys: ClassVar[str] = "keep it in a Secret on the cluster, which the values name"

    namespace: field_types.DnsLabel
    version: field_types.Text
    charts: field_types.Text
    values: dict[str, Any]

    @field_validator("values")
    @classmethod
    def _check_values(cls, given: dict[str, Any], info: ValidationInfo[Report]) -> dict[str, Any]:
        # Who may read the file knows a key in it.
        is_known = not info.context.is_encrypted(cls.section)
        known = ", take the key for known to everyone who can read the stack's file" if is_known else ""
        for path in find_private_keys(given):
            info.context.refuse(
                f"{cls.section}.values.{path}",
                "holds a private key, and Helm keeps the values with every revision of a release",
                f"Remove it{known}, and {cls.instead_of_keys}",
            )
        return given

    @property
    def source(self) -> ChartSource:
        """Place and version of the charts."""
        return ChartSource(location=self.charts, version=self.version or self.pinned, names=self.names)


@dataclass(frozen=True)
class _Distribution:
    """A line of Linkerd's charts: their names, their repository, and the version of them that is pinned."""

    charts: tuple[str, str]
    repository: str
    version: str


_DISTRIBUTIONS = {
    "opensource": _Distribution(
        (LINKERD_CRDS, LINKERD_CONTROL_PLANE), "https://helm.linkerd.io/edge", versions.LINKERD
    ),
    "enterprise": _Distribution(
        (LINKERD_ENTERPRISE_CRDS, LINKERD_ENTERPRISE_CONTROL_PLANE),
        "https://helm.buoyant.cloud",
        versions.LINKERD_ENTERPRISE,
    ),
}


class LinkerdSection(ChartSection):
    """Linkerd, but for its credentials."""

    section = "linkerd"
    instead_of_keys = (
        "have the webhooks' certificates made (meshtrust:webhooks.mode cert-manager); a key of anything else belongs "
        "into a Secret"
    )

    distribution: Literal["opensource", "enterprise"]
    crds_chart: field_types.OptionalName
    control_plane_chart: field_types.OptionalName
    crds_release: field_types.OptionalName
    control_plane_release: field_types.OptionalName
    license: field_types.License = Field(repr=False)
    license_secret: field_types.OptionalDnsName
    crds_version: field_types.Text
    ha: field_types.Flag
    install_gateway_api: field_types.Flag

    @property
    def releases(self) -> tuple[str, str]:
        """Names of the releases, of the definitions and of the control plane: those of the charts unless named."""
        crds, control_plane = _DISTRIBUTIONS[self.distribution].charts
        return self.crds_release or crds, self.control_plane_release or control_plane

    @property
    def source(self) -> ChartSource:
        """Place and version of the charts, and their names there: that of the definitions goes first."""
        distribution = _DISTRIBUTIONS[self.distribution]
        crds, control_plane = distribution.charts
        return ChartSource(
            location=self.charts or distribution.repository,
            version=self.version or distribution.version,
            names=(self.crds_chart or crds, self.control_plane_chart or control_plane),
        )


class CertManagerSection(ChartSection):
    """An installation of cert-manager."""

    section = "certManager"
    pinned = versions.CERT_MANAGER
    names = ("cert-manager",)

    install: field_types.Flag


class TrustBundleSection(ChartSection):
    """The publisher of the bundle, and an installation of trust-manager."""

    section = "trustBundle"
    pinned = versions.TRUST_MANAGER
    names = ("trust-manager",)

    mode: Literal["helm", "trust-manager"]
    install: field_types.Flag


class WebhooksSection(Section):
    """The signer of the certificates of Linkerd's webhooks."""

    section = "webhooks"

    mode: Literal["", "chart", "cert-manager"]
    authorities: field_types.Names = Field(examples=[["1"]])
    signer: field_types.OptionalName
    viz_namespace: field_types.OptionalDnsLabel


class ObservabilitySection(Section):
    """Alerts, monitors and a dashboard."""

    section = "observability"

    enabled: field_types.Flag
    namespace: field_types.OptionalDnsLabel
    labels: dict[str, str]


class HelmSection(Section):
    """Limits of every Helm release."""

    section = "helm"

    timeout_seconds: field_types.Seconds


class Configuration(Section):
    """The whole configuration of a stack."""

    role: Literal["cluster", "anchor"]
    anchor_stack: field_types.OptionalStack
    clusters: field_types.Stacks = Field(examples=[["east", "west"]])
    # Only `meshtrust fleet` uses it. Mirrored Services have it in their names.
    link_name: field_types.OptionalDnsLabel
    cluster: ClusterSection
    context: field_types.Text
    kubeconfig: field_types.Text
    cluster_uid: field_types.Text
    trust_domain: field_types.DnsName
    anchors: field_types.Names = Field(examples=[["2026"]])
    signer: field_types.OptionalName
    anchor_certificates: field_types.Roots
    anchor_keys: field_types.Keys = Field(repr=False)
    anchor: AnchorSection
    rotation: RotationSection
    gate: GateSection
    issuer: IssuerSection
    linkerd: LinkerdSection
    webhooks: WebhooksSection
    trust_bundle: TrustBundleSection
    cert_manager: CertManagerSection
    observability: ObservabilitySection
    helm: HelmSection

    @property
    def signing_generation(self) -> str:
        """The generation that signs: the one that is named, or the only one; empty in an anchor stack."""
        return _signer(self.signer, self.anchors) if self.role == "cluster" else ""

    @property
    def signing_authority(self) -> str:
        """The authority that signs the webhooks' certificates: the one that is named, or the only one."""
        return _signer(self.webhooks.signer, self.webhooks.authorities)

    @property
    def webhooks_by_cert_manager(self) -> bool:
        """Whether cert-manager issues the webhooks' certificates; else Linkerd's chart makes them."""
        if self.webhooks.mode:
            return self.webhooks.mode == "cert-manager"
        return self.issuer.mode in CERT_MANAGER_MODES

    @property
    def needs_cert_manager(self) -> bool:
        """Whether cert-manager issues anything."""
        return self.issuer.mode in CERT_MANAGER_MODES or self.webhooks_by_cert_manager


def _signer(named: str, of: tuple[str, ...]) -> str:
    return named or (of[0] if len(of) == 1 else "")


def is_section(kind: Any) -> TypeGuard[type[Section]]:
    """Return whether a field's type is a section."""
    return isinstance(kind, type) and issubclass(kind, Section)


def _fields(model: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from _fields(field.annotation)
        else:
            yield model.key_of(name), field


FIELDS = dict(_fields(Configuration))
"""The field of each key of the program, such as ``issuer.mode``."""
