"""Carriers of Helm values: the resources and files that hold values for Linkerd's chart."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshtrust.lint.objects import Object
from meshtrust.lint.reading.documents import Document, Unparsed, read_text
from meshtrust.lint.rule import Location
from meshtrust.lint.rules.helm import Extent
from meshtrust.lint.values import at, is_placeholder, mapping, overlaid, sequence, text
from meshtrust.names import CONTROL_PLANE_CHARTS, LINKERD_CONFIG, SECTION_SERVICES

Path = tuple[str | int, ...]
# Depth of the search for values in a document of unknown kind.
_DEEPEST = 6
# Texts in values for Linkerd.
_VALUES_TEXT = re.compile(r"identityTrust|^\s*[\"']?(scheme|externalCA|issuanceLifetime)[\"']?:", re.MULTILINE)
# Names that show that a list of parameters is for Linkerd.
_PARAMETERS = ("identityTrustAnchorsPEM", "identityTrustDomain", "identity.issuer.", "identity.externalCA")


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Helm values for Linkerd's control plane, and their carrier.

    Attributes:
        file: The file that holds them.
        name: Their holder, for the beginning of a sentence.
        values: The values.
        extent: How much of them was read.
        namespace: Namespace that they are installed into; empty if it is not named.
        locate: Returns the place of a dotted path of the values.
        unparsed: Texts of values among them that are not YAML.
        carrier: The object or the document that carries them.
    """

    file: str
    name: str
    values: Mapping[str, Any]
    extent: Extent
    namespace: str = ""
    locate: Callable[[str], Location]
    unparsed: tuple[Unparsed, ...] = ()
    carrier: Object | Document | None = None


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Values of one origin, which override those of others.

    Attributes:
        values: The values.
        locate: Returns the place of a dotted path of them.
    """

    values: Mapping[str, Any]
    locate: Callable[[str], Location]


def looks_like_values(value: Any) -> bool:
    """Whether a map has values that only linkerd-control-plane has."""
    issuer = mapping(at(value, "identity.issuer"))
    return (
        any(name in mapping(value) for name in ("identityTrustAnchorsPEM", "identityTrustDomain"))
        or bool(issuer.keys() & {"scheme", "tls", "issuanceLifetime", "clockSkewAllowance"})
        or at(value, "identity.externalCA") is not None
        or any(
            mapping(at(value, webhook)).keys() & {"externalSecret", "injectCaFrom", "injectCaFromSecret", "caBundle"}
            for webhook in SECTION_SERVICES
        )
    )


def carried_by_object(one: Object, *, part: bool) -> Iterator[Carried]:
    """Yield the Helm values of Linkerd that an object carries.

    Args:
        one: The object.
        part: Whether it is a patch or is patched.
    """
    read = _READERS.get(one.kind, _read_unknown)
    for carried in read(one):
        extent: Extent = "part" if part and carried.extent != "record" else carried.extent
        yield replace(carried, extent=extent, carrier=one)


def carried_by_values(document: Document) -> Iterator[Carried]:
    """Yield the Helm values that a document without a kind is, or holds: below a subchart's name, or in a helmfile."""
    if text(mapping(document.value).get("kind")) and mapping(document.value).get("apiVersion"):
        return
    extent: Extent = "part" if document.defaults else "layer"
    for carried in _search(document, (), document.value, "Helm value", extent):
        yield replace(carried, carrier=document)


def _read_release(one: Object) -> Iterator[Carried]:
    chart = chart_of(one)
    values = one.get("spec.values")
    if _is_control_plane(chart) or looks_like_values(values):
        from_elsewhere = bool(one.get("spec.valuesFrom")) or not _is_control_plane(chart) or _is_unknown(values)
        extent: Extent = "part" if from_elsewhere else "whole"
        # Older charts make the control plane's namespace themselves, whatever the release's is.
        namespace = target_of(one) if _is_control_plane(chart) else ""
        yield _carried(one, [_layer(one, ("spec.values",), values)], namespace, extent)
    elif isinstance(values, Mapping):
        yield from _search(one.document, (*one.path, "spec.values"), values, _name(one), "part")


def _read_application(one: Object) -> Iterator[Carried]:
    for path, source in sources_of(one):
        helm = mapping(mapping(source).get("helm"))
        unparsed: list[Unparsed] = []
        if helm.get("valuesObject") is not None:
            layers = [_layer(one, (*path, "helm.valuesObject"), helm["valuesObject"])]
        else:
            layers, unparsed = _inline(one, (*path, "helm.values"), text(helm.get("values")))
        inline = layers
        given = sequence(helm.get("parameters"))
        if given:
            inline = [*layers, _parameters(one, (*path, "helm.parameters"), given)]
        values = _merged(inline)
        is_chart = _is_control_plane(text(mapping(source).get("chart")))
        if is_chart or looks_like_values(values):
            elsewhere = helm.keys() & {"valueFiles", "fileParameters"} or one.get("spec.templatePatch")
            unknown = elsewhere or any(_is_unknown(helm.get(name)) for name in ("valuesObject", "parameters"))
            extent: Extent = "whole" if is_chart and not unknown and not unparsed else "part"
            yield _carried(one, inline, target_of(one) if is_chart else "", extent, unparsed)
        elif values:
            for layer in inline:
                yield from _search(one.document, (), layer.values, _name(one), "part", locate=layer.locate)


def _read_helm_chart(one: Object) -> Iterator[Carried]:
    layers, unparsed = _inline(one, ("spec.valuesContent",), text(one.get("spec.valuesContent")))
    given = mapping(one.get("spec.set"))
    if given:
        parameters = [{"name": name, "value": value} for name, value in given.items()]
        layers.append(_parameters(one, ("spec.set",), parameters))
    chart = text(one.get("spec.chart"))
    is_chart = _is_control_plane(chart) or (_is_control_plane(one.name) and not chart)
    if is_chart or looks_like_values(_merged(layers)):
        whole = one.kind == "HelmChart" and is_chart and not one.get("spec.valuesSecrets") and not unparsed
        whole = whole and not is_placeholder(one.get("spec.valuesContent"))
        yield _carried(one, layers, text(one.get("spec.targetNamespace")), "whole" if whole else "part", unparsed)


def _read_kustomization(one: Object) -> Iterator[Carried]:
    for index, chart in enumerate(sequence(one.get("helmCharts"))):
        layer = _layer(one, ("helmCharts", index, "valuesInline"), mapping(chart).get("valuesInline"))
        is_chart = _is_control_plane(text(mapping(chart).get("name")))
        if is_chart or looks_like_values(layer.values):
            files = mapping(chart).keys() & {"valuesFile", "additionalValuesFiles"}
            namespace = text(mapping(chart).get("namespace")) or text(one.get("namespace"))
            whole = is_chart and not files and not _is_unknown(mapping(chart).get("valuesInline"))
            yield _carried(one, [layer], namespace, "whole" if whole else "part")


def _read_inflation(one: Object) -> Iterator[Carried]:
    layer = _layer(one, ("valuesInline",), one.get("valuesInline"))
    if looks_like_values(layer.values):
        yield _carried(one, [layer], text(one.get("namespace")), "part")


def _read_control_plane(one: Object) -> Iterator[Carried]:
    path = "spec.components.linkerd.controlPlaneConfig"
    if one.get(path) is not None:
        yield _carried(one, [_layer(one, (path,), one.get(path))], "linkerd", "part")


def _read_config_map(one: Object) -> Iterator[Carried]:
    for key, content in mapping(one.get("data")).items():
        if "identityTrustAnchorsPEM" in str(content) or one.name == LINKERD_CONFIG:
            layers, unparsed = _inline(one, ("data", str(key)), text(content))
            if looks_like_values(_merged(layers)) or "cniEnabled" in _merged(layers):
                extent: Extent = "record" if one.name == LINKERD_CONFIG else "part"
                yield _carried(one, layers, one.namespace if extent == "record" else "", extent, unparsed)


def _read_secret(one: Object) -> Iterator[Carried]:
    for key, content in mapping(one.get("stringData")).items():
        if "identityTrustAnchorsPEM" in str(content):
            yield from _search(one.document, (*one.path, "stringData", str(key)), content, _name(one), "part")


def _read_unknown(one: Object) -> Iterator[Carried]:
    yield from _search(one.document, one.path, one.manifest, _name(one), "part")


_READERS: Mapping[str, Callable[[Object], Iterator[Carried]]] = {
    "HelmRelease": _read_release,
    "Application": _read_application,
    "ApplicationSet": _read_application,
    "HelmChart": _read_helm_chart,
    "HelmChartConfig": _read_helm_chart,
    "Kustomization": _read_kustomization,
    "Component": _read_kustomization,
    "HelmChartInflationGenerator": _read_inflation,
    "ControlPlane": _read_control_plane,
    "ConfigMap": _read_config_map,
    **dict.fromkeys(
        ("Certificate", "Issuer", "ClusterIssuer", "Bundle", "ClusterBundle", "Namespace", "Deployment"),
        lambda _: iter(()),
    ),
    "Secret": _read_secret,
}


def _search(
    document: Document,
    path: Path,
    value: Any,
    name: str,
    extent: Extent,
    *,
    locate: Callable[[str], Location] | None = None,
) -> Iterator[Carried]:
    """Yield the values anywhere below a value, as maps, as texts of YAML, or as parameters of a chart."""
    waiting: list[tuple[Path, Any]] = [(path, value)]
    while waiting:
        where, found = waiting.pop(0)
        if isinstance(found, Mapping):
            if looks_like_values(found):
                yield Carried(
                    file=document.file,
                    name=name,
                    values=found,
                    extent=extent,
                    locate=_below(locate, where) if locate else _locator(document, where),
                )
                # Charts up to Linkerd 2.9 have some of their values below it.
                waiting += [((*where, "global"), found["global"])] if "global" in found else []
                continue
        elif _are_parameters(found):
            layer = _parameters_at(document, where, found)
            yield Carried(file=document.file, name=name, values=layer.values, extent="part", locate=layer.locate)
            continue
        if len(where) < _DEEPEST + len(path):
            members = found.items() if isinstance(found, Mapping) else enumerate(sequence(found))
            waiting += [((*where, key if isinstance(key, int) else str(key)), member) for key, member in members]
        if isinstance(found, str) and "\n" in found and _VALUES_TEXT.search(found):
            for inline in read_text(document.file, found, offset=_offset(document.locate(*where))).documents:
                yield from _search(inline, (), inline.value, name, "part")


def _carried(
    one: Object, layers: list[_Layer], namespace: str, extent: Extent, unparsed: list[Unparsed] | None = None
) -> Carried:
    return Carried(
        file=one.file,
        name=_name(one),
        values=_merged(layers),
        extent=extent,
        namespace=namespace,
        locate=_locate_in(layers, one.locate("spec")),
        unparsed=tuple(unparsed or ()),
    )


def _is_unknown(values: Any) -> bool:
    """Whether some values, or keys in them, are placeholders."""
    return is_placeholder(values) or any(map(is_placeholder, mapping(values)))


def _name(one: Object) -> str:
    return f"{one.kind} {one.name}, value" if one.name else f"{one.kind}, value"


def _layer(one: Object, path: Path, value: Any) -> _Layer:
    return _Layer(values=mapping(value), locate=_locator(one.document, (*one.path, *path)))


def _locator(document: Document, path: Path) -> Callable[[str], Location]:
    def locate(member: str) -> Location:
        return document.locate(*path, member)

    return locate


def _below(locate: Callable[[str], Location], path: Path) -> Callable[[str], Location]:
    def locate_below(member: str) -> Location:
        return locate(".".join([*map(str, path), member]).rstrip("."))

    return locate_below


def _inline(one: Object, path: Path, content: str) -> tuple[list[_Layer], list[Unparsed]]:
    """Return the values in a text of YAML within YAML, and its parts that are not YAML."""
    if not content.strip():
        return [], []
    read = read_text(one.file, content, offset=_offset(one.document.locate(*one.path, *path)))
    layers = [
        _Layer(values=document.value, locate=_locator(document, ()))
        for document in read.documents
        if isinstance(document.value, Mapping)
    ]
    return layers, read.unparsed


def _offset(location: Location) -> int:
    return 0 if location.line is None or location.folded else location.line - 1


def _parameters(one: Object, path: Path, given: list[Any]) -> _Layer:
    return _parameters_at(one.document, (*one.path, *path), given)


def _are_parameters(value: Any) -> bool:
    """Whether a list has values of Linkerd as parameters: of Argo CD, of a helmfile's ``set``, of Terraform's."""
    names = [text(mapping(one).get("name")) for one in sequence(value)]
    return any(name.startswith(_PARAMETERS) for name in names)


def _parameters_at(document: Document, path: Path, given: list[Any]) -> _Layer:
    """Return the values that parameters set one by one, as ``helm --set`` does (dots in names, ``true`` for true)."""
    values: dict[str, Any] = {}
    places: dict[str, Path] = {}
    for index, parameter in enumerate(given):
        name, value = text(mapping(parameter).get("name")), mapping(parameter).get("value")
        parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", name)]
        node = values
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            node = below if isinstance(below, dict) else {}
        node[parts[-1]] = _typed(value, forced=mapping(parameter).get("forceString") is True)
        places[name] = (*path, index, "value")

    def locate(member: str) -> Location:
        exact = places.get(member) or next((place for name, place in places.items() if name.startswith(member)), path)
        return document.locate(*exact)

    return _Layer(values=values, locate=locate)


def _typed(value: Any, *, forced: bool) -> Any:
    """Return the value that ``helm --set`` makes of a text."""
    if forced or not isinstance(value, str):
        return value
    if re.fullmatch(r"-?[1-9][0-9]{0,17}|0", value):
        return int(value)
    return {"true": True, "false": False, "null": None}.get(value, value)


def _merged(layers: list[_Layer]) -> Mapping[str, Any]:
    merged: Mapping[str, Any] = {}
    for layer in layers:
        merged = overlaid(merged, layer.values)
    return merged


def _locate_in(layers: list[_Layer], otherwise: Location | None = None) -> Callable[[str], Location]:
    def locate(member: str) -> Location:
        for layer in reversed(layers):
            if member and at(layer.values, member) is not None:
                return layer.locate(member)
        return layers[0].locate(member) if layers else otherwise or Location("")

    return locate


def sources_of(one: Object) -> list[tuple[Path, Any]]:
    """Return the sources of an Argo CD Application, which has one or several, each with its path; or of a set's."""
    base = "spec.template.spec" if one.kind == "ApplicationSet" else "spec"
    several = sequence(one.get(f"{base}.sources"))
    if several:
        return [((f"{base}.sources", index), source) for index, source in enumerate(several)]
    return [((f"{base}.source",), one.get(f"{base}.source"))]


def chart_of(one: Object) -> str:
    """Return the name of the chart that an object installs; empty if it is not named."""
    if one.kind == "HelmRelease":
        chart = one.get("spec.chart")
        return (
            text(at(chart, "spec.chart"))
            or text(one.get("spec.chartRef.name"))
            or text(mapping(chart).get("name"))
            or text(mapping(chart).get("path"))
        )
    if one.kind in ("HelmChart", "HelmChartConfig"):
        return text(one.get("spec.chart")) or one.name
    charts = [text(mapping(source).get("chart")) for _, source in sources_of(one)]
    return next(filter(None, charts), "")


def target_of(one: Object) -> str:
    """Return the namespace that a release is installed into."""
    base = "spec.template.spec" if one.kind == "ApplicationSet" else "spec"
    own = one.namespace if one.kind == "HelmRelease" else ""
    return text(one.get("spec.targetNamespace")) or text(one.get(f"{base}.destination.namespace")) or own


def _is_control_plane(chart: str) -> bool:
    return chart.rpartition("/")[2] in CONTROL_PLANE_CHARTS
