"""Schemas of objects: served versions, and the names, types and permitted values of fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from meshtrust.lint.objects import Object
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import at, listed, mapping, misspelling, shown, text
from meshtrust.names import CERT_MANAGER_API, CERT_MANAGER_GROUP, OLD_CERT_MANAGER_GROUP

# A field is a type, a tuple of permitted texts, a map of fields, a list of one of these, or anything.
Field = Any
_ANY, _NUMBER = object, int
_REFERENCE = {"name": str, "key": str}
_SELECTOR = {"matchLabels": dict, "matchExpressions": list}
USAGES = (
    *("signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment"),
    *("cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing"),
    *("email protection", "s/mime", "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing"),
    *("microsoft sgc", "netscape sgc"),
)
# cert-manager 1.21, deploy/crds; another rule checks durations.
_CERTIFICATE = {
    "additionalOutputFormats": list,
    "commonName": str,
    "dnsNames": [str],
    "duration": _ANY,
    "emailAddresses": [str],
    "encodeUsagesInRequest": bool,
    "ipAddresses": [str],
    "isCA": bool,
    "issuerRef": {"group": str, "kind": str, "name": str},
    "keystores": dict,
    "literalSubject": str,
    "nameConstraints": dict,
    "otherNames": list,
    "privateKey": {
        "algorithm": ("RSA", "ECDSA", "Ed25519"),
        "encoding": ("PKCS1", "PKCS8"),
        "rotationPolicy": ("Never", "Always"),
        "size": _NUMBER,
    },
    "renewBefore": _ANY,
    "renewBeforePercentage": _NUMBER,
    "renewal": {"policy": ("RenewBefore", "Disabled"), "windows": list},
    "revisionHistoryLimit": _NUMBER,
    "secretName": str,
    "secretTemplate": {"annotations": dict, "labels": dict},
    "signatureAlgorithm": (
        *("SHA256WithRSA", "SHA384WithRSA", "SHA512WithRSA"),
        *("ECDSAWithSHA256", "ECDSAWithSHA384", "ECDSAWithSHA512", "PureEd25519"),
    ),
    "subject": dict,
    "uris": [str],
    "usages": [USAGES],
}
_ISSUER = {
    "acme": dict,
    "ca": {"secretName": str, "crlDistributionPoints": list, "issuingCertificateURLs": list, "ocspServers": list},
    "selfSigned": {"crlDistributionPoints": list},
    "vault": {
        "auth": dict,
        "caBundle": str,
        "caBundleSecretRef": _REFERENCE,
        "clientCertSecretRef": _REFERENCE,
        "clientKeySecretRef": _REFERENCE,
        "namespace": str,
        "path": str,
        "server": str,
        "serverName": str,
    },
    "venafi": dict,
}
# trust-manager 0.25, pkg/apis.
_SOURCE = {"name": str, "key": str, "selector": _SELECTOR, "includeAllKeys": bool}
_BUNDLE = {
    "sources": [{"configMap": _SOURCE, "secret": _SOURCE, "inLine": str, "useDefaultCAs": bool}],
    "target": {
        "configMap": {"key": str, "metadata": dict},
        "secret": {"key": str, "metadata": dict},
        "additionalFormats": dict,
        "namespaceSelector": _SELECTOR,
    },
}
_TARGET = {"data": [{"key": str, "format": ("PEM", "PKCS12"), "password": str, "profile": str}], "metadata": dict}
_CLUSTER_BUNDLE = {
    "sourceRefs": [{"kind": ("ConfigMap", "Secret"), "name": str, "key": str, "selector": _SELECTOR}],
    "defaultCAs": {"provider": ("System", "Disabled")},
    "inLineCAs": str,
    "target": {"configMap": _TARGET, "secret": _TARGET, "namespaceSelector": _SELECTOR},
}
_SPECS: Mapping[str, Field] = {
    "Certificate": _CERTIFICATE,
    "Issuer": _ISSUER,
    "ClusterIssuer": _ISSUER,
    "Bundle": _BUNDLE,
    "ClusterBundle": _CLUSTER_BUNDLE,
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {"Certificate": ("secretName", "issuerRef", "issuerRef.name")}
_SERVED = {
    CERT_MANAGER_GROUP: CERT_MANAGER_API,
    OLD_CERT_MANAGER_GROUP: CERT_MANAGER_API,
    "admissionregistration.k8s.io": "admissionregistration.k8s.io/v1",
}

_Kind = Literal["field", "value", "type"]
_Problem = tuple[_Kind, Violation]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An object, for the rules of its schema.

    Attributes:
        one: The object.
        part: Whether it is a patch or is patched, so that a missing field may be set elsewhere.
    """

    one: Object
    part: bool = False

    @property
    def name(self) -> str:
        """The name."""
        return self.one.title

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.one.locate("spec")

    @property
    def is_served(self) -> bool:
        """Whether the API server still serves its version."""
        version = text(self.one.manifest.get("apiVersion"))
        return _SERVED.get(self.one.group, version) == version

    @cached_property
    def problems(self) -> Mapping[_Kind, list[Violation]]:
        """The differences between the spec and its schema, by their kind."""
        found: dict[_Kind, list[Violation]] = {"field": [], "value": [], "type": []}
        for kind, violation in _walk(self):
            found[kind].append(violation)
        return found

    def violation(self, path: str, text: str, fix: str | None = None) -> Violation:
        """Return a violation by a field of the spec."""
        dotted = path.replace("[", ".").replace("]", "")
        parts = [int(part) if part.isdigit() else part for part in dotted.split(".") if part]
        location = self.one.document.locate(*self.one.path, "spec", *parts)
        return Violation(text=text, fix=fix, member=f"spec.{path}", location=location)


MANIFESTS = RuleSet[Manifest]("An object as the API server takes it")


@MANIFESTS.rule(
    "MT701",
    "error",
    "The version of the API is no longer served",
    reason="The API server refuses an object of a version that it does not serve. cert-manager serves v1 alone since "
    "1.6, in which some fields have other names; Kubernetes serves v1 of webhook configurations alone since 1.22.",
    source="cert-manager, Upgrading from v1.5 to v1.6; Kubernetes, Deprecated API Migration Guide",
    fix="Write it as the version that is served",
)
def _served_version(manifest: Manifest) -> Iterator[Violation]:
    if not manifest.is_served:
        version = manifest.one.manifest.get("apiVersion")
        served = _SERVED[manifest.one.group]
        yield Violation(
            text=f"has apiVersion {shown(version).strip(chr(34))}, which is no longer served; {served} is",
            fix=f"Write it as apiVersion {served}; cmctl convert rewrites old Certificates",
            location=manifest.one.locate("apiVersion"),
        )


@MANIFESTS.rule(
    "MT702",
    "error",
    "The object has an unknown field",
    reason="kubectl refuses an object with a field that its schema does not have; others, Helm and GitOps engines "
    "among them, may drop the field without a message, so that a default applies.",
    source="Kubernetes, field validation; cert-manager deploy/crds; trust-manager pkg/apis",
    fix="Write the field's name as the schema has it, or remove it",
    applies=lambda manifest: manifest.is_served,
)
def _unknown_fields(manifest: Manifest) -> list[Violation]:
    return manifest.problems["field"]


@MANIFESTS.rule(
    "MT703",
    "error",
    "A field has a value that the API does not know",
    reason="The schema lists the values of the field, case-sensitive; the API server refuses all others.",
    source="cert-manager deploy/crds; trust-manager pkg/apis",
    fix="Use one of the values that the schema lists",
    applies=lambda manifest: manifest.is_served,
)
def _unknown_values(manifest: Manifest) -> list[Violation]:
    return manifest.problems["value"]


@MANIFESTS.rule(
    "MT704",
    "error",
    "A field has a value of the wrong type",
    reason="The API server refuses an object with a text in place of a number, a list or a boolean, and the reverse.",
    source="cert-manager deploy/crds; trust-manager pkg/apis",
    fix="Write the value as the schema has it; a text in quotes is neither a number nor true or false",
    applies=lambda manifest: manifest.is_served,
)
def _other_types(manifest: Manifest) -> list[Violation]:
    return manifest.problems["type"]


@MANIFESTS.rule(
    "MT705",
    "error",
    "A required field is missing",
    reason="The API server refuses a Certificate without secretName or issuerRef.",
    source="cert-manager deploy/crds",
    fix="Set it",
    applies=lambda manifest: manifest.is_served and not manifest.part,
)
def _required_fields(manifest: Manifest) -> Iterator[Violation]:
    spec = manifest.one.get("spec")
    for path in _REQUIRED.get(manifest.one.kind, ()):
        parent = at(spec, path.rpartition(".")[0]) if "." in path else spec
        if isinstance(parent, Mapping) and path.rpartition(".")[2] not in parent:
            yield manifest.violation(path, "is missing", f"Set spec.{path}")


def _walk(manifest: Manifest) -> Iterator[_Problem]:
    """Yield each difference between a spec and its schema, with its kind."""
    fields = _SPECS.get(manifest.one.kind)
    if fields is not None:
        yield from _check("", manifest.one.get("spec"), fields, manifest)
    reference = mapping(manifest.one.get("spec.issuerRef"))
    # Other groups have their own kinds.
    if reference.get("kind") and reference.get("group") in (None, "", CERT_MANAGER_GROUP):
        yield from _check_choice("issuerRef.kind", reference["kind"], ("Issuer", "ClusterIssuer"), manifest)


def _check(path: str, value: Any, expected: Field, manifest: Manifest) -> Iterator[_Problem]:
    if value is None or expected is _ANY:
        return
    if isinstance(expected, tuple):
        yield from _check_choice(path, value, expected, manifest)
        return
    kind: Any = expected if isinstance(expected, type) else type(expected)
    # A number may be written 256.0, as tools that make it from JSON do.
    whole = isinstance(value, float) and value.is_integer()
    fits: bool = isinstance(value, Mapping if kind is dict else kind) or (kind is int and whole)
    if not fits or (kind is int and isinstance(value, bool)):
        wrong = manifest.violation(path, f"is {shown(value)}, and has to be {_TYPES[kind]}")
        yield "type", replace(wrong, value=value)
    elif isinstance(expected, dict):
        for name, member in value.items():
            below = f"{path}.{name}".lstrip(".")
            if name in expected:
                yield from _check(below, member, expected[name], manifest)
            else:
                yield from _check_name(below, text(name), expected, manifest)
    elif isinstance(expected, list) and isinstance(expected[0], tuple):
        yield from _check_choices(path, value, expected[0], manifest)
    elif isinstance(expected, list):
        for index, item in enumerate(value):
            yield from _check(f"{path}[{index}]", item, expected[0], manifest)


_TYPES: Mapping[type, str] = {
    dict: "a map",
    list: "a list",
    str: "a text",
    bool: "true or false, without quotes",
    int: "a number, without quotes",
}


def _check_name(path: str, name: str, expected: Mapping[str, Field], manifest: Manifest) -> Iterator[_Problem]:
    """Yield an unknown field; one that resembles no known field may belong to a newer version."""
    if name.startswith("$"):
        return
    meant = misspelling(name, expected)
    fault = f"is not a field; {meant} is" if meant else f"is not a known field of {manifest.one.kind}"
    wrong = manifest.violation(path, fault, f"Write {meant}" if meant else None)
    yield "field", replace(wrong, severity=None if meant else "note", value=name)


def _check_choice(path: str, value: Any, allowed: tuple[str, ...], manifest: Manifest) -> Iterator[_Problem]:
    if value not in allowed:
        meant = misspelling(text(value), allowed)
        wrong = manifest.violation(path, f"is {shown(value)}, {_neither(allowed)}", f"Write {meant}" if meant else None)
        yield "value", replace(wrong, value=value)


def _check_choices(path: str, values: list[Any], allowed: tuple[str, ...], manifest: Manifest) -> Iterator[_Problem]:
    wrong = [value for value in values if value not in allowed]
    if wrong:
        near = [misspelling(text(value), allowed) for value in wrong]
        values_are = "is not a value" if len(wrong) == 1 else "are not values"
        fault = f"has {listed(map(_quoted, wrong))}, which {values_are} of the API"
        found = manifest.violation(path, fault, f"Write {listed(near)}" if all(near) else None)
        yield "value", replace(found, value=values)


def _neither(allowed: tuple[str, ...]) -> str:
    return f"neither {' nor '.join(allowed)}" if len(allowed) == 2 else f"none of {listed(allowed)}"


def _quoted(value: Any) -> str:
    return shown(value).strip('"')


def is_misspelt(spec: Any, *names: str) -> bool:
    """Whether a Certificate's spec has a misspelling of one of some fields."""
    return any(misspelling(text(given), _CERTIFICATE) in names for given in mapping(spec))


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """A key that occurs more than once in one map of a document.

    Attributes:
        title: Name of the document.
        path: The path to the key.
        lines: Its lines in the file, from 1.
        location: Its last place.
    """

    title: str
    path: str
    lines: tuple[int, ...]
    location: Location

    @property
    def name(self) -> str:
        """The name."""
        return f"{self.title} {self.path}"


DUPLICATES = RuleSet[Duplicate]("A repeated key")


@DUPLICATES.rule(
    "MT711",
    "warning",
    "A map has a key twice",
    reason="A map may have a key only once. kustomize refuses the file, and so do Flux and kubectl -k; kubectl apply "
    "and Helm take the last one without a message.",
    source="YAML 1.2 §3.2.1.1; kustomize, kyaml",
    fix="Keep the one that is meant",
)
def _duplicate(duplicate: Duplicate) -> Iterator[str]:
    times = "twice" if len(duplicate.lines) == 2 else f"{len(duplicate.lines)} times"
    yield (
        f"occurs {times}, in lines {' and '.join(map(str, duplicate.lines))}; the last one counts, if the file is "
        "accepted"
    )
