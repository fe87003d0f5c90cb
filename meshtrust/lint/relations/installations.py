"""Installations of Linkerd: their Helm values, with facts from the files around them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from meshtrust.lint.objects import Object, nearest
from meshtrust.lint.reading.documents import Document
from meshtrust.lint.reading.files import Unread
from meshtrust.lint.reading.kustomize import Kustomizations
from meshtrust.lint.relations.carriers import Carried, carried_by_object, carried_by_values, chart_of, target_of
from meshtrust.lint.rule import Location
from meshtrust.lint.rules.helm import Extent, HelmValues
from meshtrust.lint.values import at, mapping, sequence, text
from meshtrust.names import WEBHOOKS_LABEL

_CLUSTER_RESOURCES = re.compile(r"--cluster-resource-namespace=(\S+)")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Helm values of Linkerd.

    Attributes:
        file: The file that holds them.
        namespace: Namespace that they are installed into; empty if it is not named.
        helm: The values.
        carrier: The object or the document that carries them.
    """

    file: str
    namespace: str
    helm: HelmValues
    carrier: Object | Document | None = None


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Namespaces in which operators read Secrets, each with the file that names it.

    Attributes:
        cert_manager: Namespaces in which cert-manager runs.
        cluster_resources: Namespaces in which cert-manager reads the Secrets of ClusterIssuers.
        trust: Namespaces in which trust-manager reads the sources of its Bundles.
    """

    cert_manager: list[tuple[str, str]]
    cluster_resources: list[tuple[str, str]]
    trust: list[tuple[str, str]]


def find_operators(objects: Sequence[Object]) -> Operators:
    """Return the namespaces that cert-manager and trust-manager run in and read, as far as objects name them."""
    found = Operators(cert_manager=[], cluster_resources=[], trust=[])
    for one in objects:
        labels = mapping(one.get("metadata.labels"))
        if one.kind == "Deployment" and one.namespace:
            if labels.get("app.kubernetes.io/name") == "cert-manager" or one.name == "cert-manager":
                found.cert_manager.append((one.file, one.namespace))
                named = _CLUSTER_RESOURCES.search(" ".join(_arguments(one)))
                if named and not named.group(1).startswith("$"):
                    found.cluster_resources.append((one.file, named.group(1)))
        elif one.kind in ("HelmRelease", "Application", "HelmChart") and target_of(one):
            chart = chart_of(one)
            if chart == "cert-manager":
                found.cert_manager.append((one.file, target_of(one)))
                found.cluster_resources.append((one.file, _value(one, "clusterResourceNamespace") or target_of(one)))
            elif chart in ("trust-manager", "cert-manager-trust"):
                found.trust.append((one.file, _value(one, "app.trust.namespace") or "cert-manager"))
    return found


def find_installations(
    documents: Sequence[Document], objects: Sequence[Object], kustomizations: Kustomizations, operators: Operators
) -> tuple[list[Installation], list[Unread]]:
    """Return the installations, and the texts of values that are not YAML.

    Args:
        documents: All documents that were read.
        objects: All objects among them.
        kustomizations: Which of them are patches or are patched.
        operators: Where cert-manager is.
    """
    found = [one for document in documents for one in carried_by_values(document)]
    for one in objects:
        found += carried_by_object(one, part=kustomizations.is_part(one.file))
    left_alone = frozenset(
        one.name
        for one in objects
        if one.kind == "Namespace" and mapping(one.get("metadata.labels")).get(WEBHOOKS_LABEL) == "disabled"
    )
    installations = [_installation(one, _extent(one, found), operators, left_alone) for one in found]
    unread = [
        Unread(
            name=one.name,
            kind="template" if broken.template else "yaml",
            reason="are a template, which is not judged" if broken.template else f"are not YAML: {broken.reason}",
            location=Location(one.file, broken.line + 1),
        )
        for one in found
        for broken in one.unparsed
    ]
    return installations, unread


def _extent(one: Carried, others: Sequence[Carried]) -> Extent:
    """Return what of some values is at hand: of layers in one directory, any may have what another lacks."""
    directory = PurePath(one.file).parent
    beside = [other for other in others if other is not one and PurePath(other.file).parent == directory]
    trusted = any(
        other.values.get("identityTrustAnchorsPEM") or at(other.values, "identity.externalCA") for other in beside
    )
    return "part" if one.extent == "layer" and trusted else one.extent


def _installation(one: Carried, extent: Extent, operators: Operators, left_alone: frozenset[str]) -> Installation:
    near = nearest(operators.cert_manager, one.file, lambda known: known[0])
    helm = HelmValues(
        name=one.name,
        values=one.values,
        extent=extent,
        cert_manager=near[0][1] if near else None,
        left_alone=left_alone,
        locate=one.locate,
    )
    return Installation(file=one.file, namespace=one.namespace, helm=helm, carrier=one.carrier)


def _arguments(deployment: Object) -> list[str]:
    containers = sequence(deployment.get("spec.template.spec.containers"))
    return [text(argument) for container in containers for argument in sequence(mapping(container).get("args"))]


def _value(one: Object, path: str) -> str:
    values = one.get("spec.values") or one.get("spec.source.helm.valuesObject")
    return text(at(values, path))
