"""Whatever is read or configured: what comes of it is a finding or the documented error, and never a key."""

import base64
import contextlib
import copy
import json
import os
import re
import string
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pulumi
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshtrust.lint import LeafLifetime, lint_issuer_window, lint_trust_anchor
from meshtrust.lint.reading.files import Material, PemFile, add_text, read_files
from meshtrust.lint.report import as_json, as_sarif
from meshtrust.lint.rule_sets import RULES
from meshtrust.lint.rules.anchors import ANCHORS, BUNDLES, Bundle
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.runner import LintResult, lint_material
from meshtrust.pki.chain import ChainError, verify_chain
from meshtrust.pki.durations import format_duration, parse_duration
from meshtrust.pki.pem import CertificateSummary, PemError, normalise_bundle, read_bundle
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import load_settings
from rehearsal.mocks import engine_config
from tests.certificates import make_certificate
from tests.recorder import build
from tests.unit.lint.test_files import APPLICATION, CERT_MANAGER, GUIDE, HELM_RELEASE, trust_roots

checked = settings(
    max_examples=int(os.environ.get("MESHTRUST_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NOW = datetime.now(UTC)
ROOT = make_certificate(days=3650, age=1)
ISSUER = make_certificate("issuer", issuer=ROOT, path_length=0, days=30)
LEAF = make_certificate("leaf", issuer=ISSUER, ca=False, key_cert_sign=False, days=1)
DERS = [pair.certificate.public_bytes(serialization.Encoding.DER) for pair in (ROOT, ISSUER, LEAF)]
# What only a private key has: after the first line's beginning comes the public half.
SECRETS = [pair.key_pem.splitlines()[1][:40] for pair in (ROOT, ISSUER, LEAF)]


@st.composite
def ders(draw):
    """Certificates with some of their bytes changed, cut short or doubled, and bytes that are no certificate."""
    der = bytearray(draw(st.sampled_from(DERS)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(der) - 1))
        der[at] = draw(st.integers(0, 255))
    return draw(st.sampled_from([bytes(der), bytes(der), bytes(der), bytes(der[:200]), bytes(der + der)]))


def block(label, der, width=64, tail="\n"):
    body = base64.b64encode(der).decode()
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"]) + tail


LABELS = st.sampled_from(
    ["CERTIFICATE"] * 6 + ["TRUSTED CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY", "", "x"]
)
BLOCKS = st.builds(
    block,
    LABELS,
    st.one_of(ders(), ders(), st.binary(max_size=40)),
    st.sampled_from([64, 64, 76, 1, 10_000]),
    st.sampled_from(["\n", "\n", "", "\n\n", "\r\n", " \n"]),
)
PEM_TEXTS = st.lists(
    st.one_of(
        BLOCKS,
        BLOCKS,
        BLOCKS,
        st.sampled_from([ROOT.pem, ISSUER.pem, ISSUER.key_pem, "-----BEGIN CERTIFICATE-----", "-----END ", "\n", " "]),
        st.text(max_size=20),
    ),
    max_size=5,
).map("".join)
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["48h", "999999999999999h", "ECDSA", "linkerd.io/tls", "Disabled", ROOT.pem, ISSUER.key_pem]),
        PEM_TEXTS,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.integers(), st.sampled_from(["tls.crt", "key"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def result_of(findings):
    return LintResult(findings=list(findings), files=1, judged=1, passed_over=Counter(), pem_files=())


def reported(result):
    """Write findings in the forms that have all they say."""
    result = result if isinstance(result, LintResult) else result_of(result)
    return as_json(result) + as_sarif(result.findings, RULES)


def refusal(text):
    """Say what keeps a text from being a bundle."""
    try:
        read_bundle(text)
    except PemError as error:
        return str(error)
    return None


@given(PEM_TEXTS)
@checked
def test_text_with_anything_like_pem_is_a_bundle_or_refused(text):
    refused = refusal(text)
    if refused is not None:
        assert not any(secret in refused for secret in SECRETS)
        return
    certificates = read_bundle(text)
    normal = normalise_bundle(text)
    assert normalise_bundle(normal) == normal
    for certificate in certificates:
        CertificateSummary.of(certificate).as_outputs()
        reported(list(lint_trust_anchor(certificate, NOW)))
    with contextlib.suppress(ChainError):
        assert verify_chain(certificates, certificates[-1:], NOW)


@given(st.text())
@checked
def test_any_text_is_a_bundle_or_refused(text):
    assert refusal(text)


@given(PEM_TEXTS, st.one_of(st.none(), PEM_TEXTS), PEM_TEXTS)
@checked
def test_any_credentials_are_judged(chain, key, roots):
    bundle = Bundle(name="Bundle", text=roots, at=NOW, hashed=True)
    credentials = Credentials(
        name="Credentials", role="issuer", chain=chain, key=key, roots=tuple(bundle.roots) or None, at=NOW
    )
    findings = [*BUNDLES.check(bundle), *CREDENTIALS.check(credentials)]
    for anchor in bundle.anchors:
        findings += ANCHORS.check(anchor)
    assert not any(secret in reported(findings) for secret in SECRETS)


@given(st.binary(max_size=300), st.sampled_from(["a.yaml", "ca.crt", "issuer.pem", "x.key", "x.json", "x"]))
@checked
def test_a_file_of_any_bytes_is_judged(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    reported(lint_material(read_files([path, tmp_path]), NOW))


@given(PEM_TEXTS, st.sampled_from(["ca.crt", "issuer.crt", "intermediate.pem", "tls.crt", "web.pem", "x.yaml"]))
@checked
def test_a_file_of_anything_like_pem_is_judged(text, name):
    material = Material(pem_files=[PemFile(file=name, text=text), PemFile(file="issuer.key", text=ISSUER.key_pem)])
    assert not any(secret in reported(lint_material(material, NOW)) for secret in SECRETS)


def manifests():
    """One of every kind of object that the linter reads, sound as far as it goes."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "linkerd-identity-issuer", "namespace": "linkerd"},
        "data": {"ca.crt": base64.b64encode(ROOT.pem.encode()).decode()},
        "stringData": {"tls.crt": ISSUER.pem, "tls.key": ISSUER.key_pem},
    }
    authority = {**secret, "metadata": {"name": "linkerd-trust-anchor"}, "stringData": {"tls.crt": ROOT.pem}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "linkerd", "labels": {"a": "b"}}}
    values = {
        "identityTrustAnchorsPEM": ROOT.pem,
        "identity": {"issuer": {"scheme": "linkerd.io/tls", "tls": {"crtPEM": ISSUER.pem, "keyPEM": ISSUER.key_pem}}},
        "proxyInjector": {"externalSecret": True, "namespaceSelector": {"matchExpressions": [{"key": "a"}]}},
        "webhookFailurePolicy": "Fail",
    }
    texts = [GUIDE, HELM_RELEASE, APPLICATION, CERT_MANAGER, trust_roots(ROOT.pem)]
    read = [document for text in texts for document in yaml.safe_load_all(text)]
    return [*read, secret, authority, namespace, values, {"linkerd-control-plane": values}]


MANIFESTS = manifests()
UNCHANGED = Material()
for one in MANIFESTS:
    add_text(UNCHANGED, "0.yaml", yaml.safe_dump(one))


def paths_of(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, member in value.items():
            yield from paths_of(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from paths_of(member, (*path, index))


@st.composite
def changed_manifests(draw):
    """All objects, with something in some of them replaced by anything."""
    changed = list(MANIFESTS)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(changed) - 1))
        path = draw(st.sampled_from(list(paths_of(MANIFESTS[index]))))
        replacement = draw(ANYTHING)
        if not path:
            changed[index] = replacement
            continue
        node = changed[index] = copy.deepcopy(changed[index])
        try:
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = replacement
        except (KeyError, IndexError, TypeError):
            continue
    return changed


@given(changed_manifests())
@checked
def test_objects_with_anything_in_them_are_judged_and_no_key_is_repeated(objects):
    material = Material()
    for number, (one, before, read) in enumerate(zip(objects, MANIFESTS, UNCHANGED.documents, strict=True)):
        if one is before:
            material.documents.append(read)
        else:
            add_text(material, f"{number % 2}.yaml", yaml.safe_dump(one))
            add_text(material, f"{number % 2}.json", json.dumps(one, default=str, skipkeys=True, indent="\t"))
    assert not any(secret in reported(lint_material(material, NOW)) for secret in SECRETS)


YAML_TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "kind: ",
                "apiVersion: v1\n",
                "Secret\n",
                "metadata:\n  name: linkerd-identity-issuer\n",
                "identity:\n",
                "---\n",
                "- ",
                "  ",
                "&a ",
                "*a",
                "{",
                "}",
                "[" * 500,
                "!x ",
                "|\n",
                "%YAML 1.1\n",
                "<<: *a\n",
                "? ",
                "\t",
                "2001-99-99",
                "1_0:61",
                ".inf",
                "0x",
                "{{ .Values }}\n",
                "items: *a\n",
                "List\n",
                "'",
                '"',
            ]
        ),
        st.text(alphabet=string.printable, max_size=10),
    ),
    max_size=15,
).map("".join)


@given(YAML_TEXTS)
@checked
def test_text_with_anything_like_yaml_is_judged(text):
    material = Material()
    add_text(material, "a.yaml", "kind: Secret\n" + text)
    add_text(material, "b.yaml", "identity:\n" + text)
    reported(lint_material(material, NOW))


@given(
    st.one_of(st.text(max_size=20), st.from_regex(r"([0-9]{1,30}(\.[0-9]{1,5})?(h|m|s|ms|us|ns)){1,3}", fullmatch=True))
)
@checked
def test_a_text_is_a_duration_or_refused(text):
    try:
        length = parse_duration(text)
    except ValueError:
        return
    assert timedelta() <= length < timedelta(days=366 * 293)
    assert abs(parse_duration(format_duration(length)) - length) <= timedelta(seconds=0.5)


LENGTHS = st.integers(0, 2**33).map(lambda seconds: timedelta(seconds=seconds))


@given(LENGTHS, LENGTHS, LENGTHS)
@checked
def test_any_lifetimes_are_judged(duration, renew_before, anchor):
    findings = list(lint_issuer_window(duration, renew_before, anchor))
    sound = timedelta(hours=1) <= duration < anchor and timedelta(hours=24, seconds=20) <= renew_before < duration
    assert sound == (not findings)


@given(LENGTHS, LENGTHS, st.integers(1, 200))
@checked
def test_what_the_rules_advise_for_any_lifetimes_contradicts_none_of_them(duration, renew_before, leaf_hours):
    leaf = LeafLifetime(issuance=timedelta(hours=leaf_hours))
    anchor = timedelta(days=36500)
    for finding in lint_issuer_window(min(duration, anchor / 2), renew_before, anchor, leaf):
        advised = {"issuer.duration": min(duration, anchor / 2), "issuer.renewBefore": renew_before}
        advised |= {key: parse_duration(length) for key, length in re.findall(r"(issuer\.\w+) to (\w+)", finding.fix)}
        assert list(lint_issuer_window(advised["issuer.duration"], advised["issuer.renewBefore"], anchor, leaf)) == []


@pytest.fixture(scope="module")
def mocked():
    """A program that declares nothing, so that the configuration can be read."""
    build(lambda: None)


CONFIG_KEYS = sorted(yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))["config"])


CONFIGS = st.one_of(
    st.dictionaries(st.sampled_from([*CONFIG_KEYS, "isuer", "issuer.x"]), ANYTHING, max_size=4),
    st.dictionaries(st.sampled_from(["issuer", "anchor", "linkerd", "helm"]), ANYTHING, min_size=1, max_size=2),
)


@pytest.mark.usefixtures("mocked")
@given(CONFIGS)
@checked
def test_any_configuration_is_taken_or_refused_in_words(config):
    base = {"context": "kind-test", "anchors": ["2026"], **config}
    pulumi.runtime.set_all_config(engine_config({f"meshtrust:{key}": value for key, value in base.items()}))
    try:
        load_settings(StackOutputs({}))
    except pulumi.RunError as error:
        message = str(error)
    else:
        message = ""
    assert not any(secret in message for secret in SECRETS)
