"""The policy pack as the engine speaks to it, in an environment of its own."""

import base64
import os
import subprocess

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from tests.certificates import make_certificate
from tests.policy_environment import policy_environment
from tests.recorder import REPOSITORY

# The engine's mark of a value that a preview does not know (sdk/go/common/resource/plugin, UnknownStringValue).
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
ROOT = make_certificate()


@pytest.fixture(scope="module")
def pack():
    process = subprocess.Popen(
        [policy_environment() / "bin" / "python", "-u", REPOSITORY / "policy" / "__main__.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the pack has not started"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        process.terminate()
        process.wait()


def struct(props):
    made = struct_pb2.Struct()
    made.update(props)
    return made


def analyze(pack, kind, props):
    request = analyzer_pb2.AnalyzeRequest(type=kind, properties=struct(props), urn="urn:some", name="some")
    return {(entry.policyName, entry.enforcementLevel): entry.message for entry in pack.Analyze(request).diagnostics}


def secret(name, **texts):
    data = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return "kubernetes:core/v1:Secret", {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}


def test_the_engine_is_told_of_each_policy_and_that_it_is_mandatory(pack):
    told = pack.GetAnalyzerInfo(empty_pb2.Empty())
    assert told.name == "meshtrust"
    assert {(policy.name, policy.enforcementLevel) for policy in told.policies} == {
        (name, analyzer_pb2.MANDATORY)
        for name in (
            "anchor-key-on-no-cluster",
            "issuer-duration",
            "no-key-in-helm-values",
            "signing-anchors-are-protected",
        )
    }


def test_a_resource_that_is_well_passes(pack):
    assert analyze(pack, *secret("roots", tls_crt=ROOT.pem)) == {}


def made(kind, name, props=None, *, protect=False, sources=None):
    return analyzer_pb2.AnalyzerResource(
        type=kind,
        urn=f"urn:pulumi:test::meshtrust::{kind}::{name}",
        name=name,
        properties=struct(props or {}),
        options=analyzer_pb2.AnalyzerResourceOptions(protect=protect),
        propertyDependencies={
            key: analyzer_pb2.AnalyzerPropertyDependencies(urns=[entry.urn for entry in entries])
            for key, entries in (sources or {}).items()
        },
    )


def analyze_stack(pack, *resources):
    told = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=resources)).diagnostics
    return {(entry.policyName, entry.enforcementLevel, entry.urn): entry.message for entry in told}


def test_a_key_of_an_anchor_is_a_violation_of_the_stack(pack):
    kind, props = secret("ca", tls_crt=ROOT.pem, tls_key=ROOT.key_pem)
    held = made(kind, "ca", props)
    trusted = made("kubernetes:helm.sh/v3:Release", "linkerd", {"values": {"identityTrustAnchorsPEM": ROOT.pem}})
    [(told, message)] = analyze_stack(pack, held, trusted).items()
    assert told == ("anchor-key-on-no-cluster", analyzer_pb2.MANDATORY, held.urn)
    assert "Keep it off the cluster." in message
    assert "PRIVATE KEY" not in message
    assert analyze_stack(pack, held) == {}


def test_a_duration_that_is_configured_is_the_limit(pack):
    props = {"spec": {"secretName": "linkerd-identity-issuer", "duration": "48h"}}
    kind = "kubernetes:cert-manager.io/v1:Certificate"
    assert analyze(pack, kind, props) == {}
    config = analyzer_pb2.PolicyConfig(properties=struct({"maxHours": 24}), enforcementLevel=analyzer_pb2.MANDATORY)
    pack.Configure(analyzer_pb2.ConfigureAnalyzerRequest(policyConfig={"issuer-duration": config}))
    try:
        assert list(analyze(pack, kind, props)) == [("issuer-duration", analyzer_pb2.MANDATORY)]
    finally:
        pack.Configure(analyzer_pb2.ConfigureAnalyzerRequest())


def test_what_a_preview_does_not_know_yet_is_no_violation(pack):
    kind, props = secret("ca")
    told = analyze_stack(pack, made(kind, "ca", {**props, "data": {"tls.key": UNKNOWN, "tls.crt": ROOT.pem}}))
    assert [level for _, level, _ in told] == [analyzer_pb2.ADVISORY]
    assert all("during preview" in message for message in told.values())


def test_an_unprotected_root_that_signs_is_a_violation_of_the_stack(pack):
    def judge(*, protect):
        root = made("tls:index/selfSignedCert:SelfSignedCert", "root", protect=protect)
        signed = made("tls:index/locallySignedCert:LocallySignedCert", "signed", sources={"caCertPem": [root]})
        return analyze_stack(pack, root, signed), root.urn

    assert judge(protect=True)[0] == {}
    told, urn = judge(protect=False)
    assert list(told) == [("signing-anchors-are-protected", analyzer_pb2.MANDATORY, urn)]
