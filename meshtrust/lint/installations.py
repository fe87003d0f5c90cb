"""Installations of Linkerd among what was read: Helm values, plain, of a Flux HelmRelease or an Argo CD Application."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from meshtrust.lint.files import Document, Material, read_yaml
from meshtrust.lint.helm import HelmValues
from meshtrust.lint.objects import Object, nearest
from meshtrust.lint.rule import Location
from meshtrust.lint.values import at, mapping, sequence, text


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Helm values of Linkerd.

    Attributes:
        file: The file that holds them.
        namespace: Namespace that they are installed into; empty where that is not said.
        helm: The values.
    """

    file: str
    namespace: str
    helm: HelmValues


def find_installations(documents: Sequence[Document], objects: Sequence[Object]) -> list[Installation]:
    """Return the installations, each with what the files around it say.

    Args:
        documents: All documents that were read.
        objects: All objects among them.
    """
    found = [one for document in documents for one in _values_of(document)]
    found += [values for one in objects for values in _values_of_object(one)]
    cert_manager = _cert_manager_namespaces(objects)
    left_alone = frozenset(
        one.name
        for one in objects
        if one.kind == "Namespace"
        and mapping(one.get("metadata.labels")).get("config.linkerd.io/admission-webhooks") == "disabled"
    )
    complete = []
    for values in found:
        beside = [other for other in found if PurePath(other.file).parent == PurePath(values.file).parent]
        near = nearest(cert_manager, values.file, lambda one: one[0])
        helm = replace(
            values.helm,
            anchors_elsewhere=any(other.helm.anchors.strip() for other in beside),
            cert_manager=near[0][1] if near else None,
            left_alone=left_alone,
        )
        complete.append(replace(values, helm=helm))
    return complete


def _looks_like_values(value: Any) -> bool:
    issuer = mapping(at(value, "identity.issuer"))
    return (
        any(name in mapping(value) for name in ("identityTrustAnchorsPEM", "identityTrustDomain"))
        or bool(issuer.keys() & {"scheme", "tls", "issuanceLifetime", "clockSkewAllowance"})
        or at(value, "identity.externalCA") is not None
        or any(
            mapping(at(value, webhook)).keys() & {"externalSecret", "injectCaFrom", "injectCaFromSecret", "caBundle"}
            for webhook in ("proxyInjector", "profileValidator", "policyValidator")
        )
    )


def _values_of(document: Document) -> Iterator[Installation]:
    """Yield the Helm values that a document is, or holds for a subchart."""
    if mapping(document.value).get("kind") is not None:
        return
    for path in ("", "linkerd-control-plane"):
        value = at(document.value, path) if path else document.value
        if _looks_like_values(value):
            yield _values(document, (path,), value, "Helm value", partial=document.defaults)


def _values(
    document: Document,
    path: tuple[str | int, ...],
    value: Any,
    name: str,
    *,
    namespace: str = "",
    partial: bool = False,
) -> Installation:
    def locate(member: str) -> Location:
        return document.locate(*path, member)

    helm = HelmValues(name=name, values=mapping(value), partial=partial, locate=locate)
    return Installation(file=document.file, namespace=namespace, helm=helm)


def _values_of_object(one: Object) -> Iterator[Installation]:
    """Yield the Helm values of a Flux HelmRelease or an Argo CD Application."""
    name = f"{one.kind} {one.name}, value"
    if one.kind == "HelmRelease":
        value = one.get("spec.values")
        if _chart(one) == "linkerd-control-plane" or _looks_like_values(value):
            yield _values(
                one.document,
                (*one.path, "spec.values"),
                value,
                name,
                namespace=_target(one),
                partial=bool(one.get("spec.valuesFrom")),
            )
    elif one.kind == "Application":
        for path, source in _sources(one):
            helm = mapping(mapping(source).get("helm"))
            partial = bool(helm.keys() & {"parameters", "valueFiles", "fileParameters"})
            inline = text(helm.get("values"))
            if helm.get("valuesObject") is not None:
                found = [(one.document, (*one.path, *path, "helm.valuesObject"), helm["valuesObject"])]
            else:
                found = [(document, (), document.value) for document in _inline(one, (*path, "helm.values"), inline)]
            for document, where, value in found:
                if mapping(source).get("chart") == "linkerd-control-plane" or _looks_like_values(value):
                    yield _values(document, where, value, name, namespace=_target(one), partial=partial)


def _inline(one: Object, path: tuple[str | int, ...], inline: str) -> list[Document]:
    """Return the documents of YAML that stands in YAML as a text."""
    location = one.document.locate(*one.path, *path)
    material = Material()
    read_yaml(one.file, inline, material, 0 if location.line is None or location.folded else location.line - 1)
    return material.documents


def _sources(one: Object) -> list[tuple[tuple[str | int, ...], Any]]:
    """Return an Application's sources, of which it has one or several, each with its path."""
    several = sequence(one.get("spec.sources"))
    if several:
        return [(("spec.sources", index), source) for index, source in enumerate(several)]
    return [(("spec.source",), one.get("spec.source"))]


def _chart(one: Object) -> str:
    if one.kind == "HelmRelease":
        return text(one.get("spec.chart.spec.chart")) or text(one.get("spec.chartRef.name"))
    charts = [text(mapping(source).get("chart")) for _, source in _sources(one)]
    return next(filter(None, charts), "")


def _target(one: Object) -> str:
    """Return the namespace that a release is installed into."""
    return text(one.get("spec.targetNamespace")) or text(one.get("spec.destination.namespace")) or one.namespace


def _cert_manager_namespaces(objects: Sequence[Object]) -> list[tuple[str, str]]:
    """Return the namespaces that cert-manager is in, each with the file that says so."""
    found = []
    for one in objects:
        labels = mapping(one.get("metadata.labels"))
        controller = labels.get("app.kubernetes.io/name") == "cert-manager" or one.name == "cert-manager"
        if one.kind == "Deployment" and controller and one.namespace:
            found.append((one.file, one.namespace))
        elif one.kind in ("HelmRelease", "Application") and _chart(one) == "cert-manager" and _target(one):
            found.append((one.file, _target(one)))
    return found
