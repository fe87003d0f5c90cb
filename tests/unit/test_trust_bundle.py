"""The bundle as trust-manager publishes it: the declared objects, and the values for Linkerd."""

import pulumi
import pytest

from meshtrust.pki.pem import fingerprint, read_bundle
from tests.certificates import make_certificate
from tests.recorder import run_program

BUNDLE = "kubernetes:trust.cert-manager.io/v1alpha1:Bundle"
RELEASE = "kubernetes:helm.sh/v3:Release"


@pytest.fixture
def published(config):
    """A stack whose bundle trust-manager publishes, with two roots."""
    return {
        **config,
        "meshtrust:trustBundle.mode": "trust-manager",
        "meshtrust:anchors": ["2025", "2026"],
        "meshtrust:signer": "2026",
        "meshtrust:anchorCertificates": {"2025": make_certificate("external root").pem},
    }


def test_the_bundle_goes_to_linkerds_namespace_and_to_no_other(published):
    recording = run_program({**published, "meshtrust:linkerd.namespace": "mesh"})
    [bundle] = recording.of_type(BUNDLE)
    assert bundle.inputs["metadata"]["name"] == "linkerd-identity-trust-roots"
    assert bundle.inputs["spec"] == {
        "sources": [{"inLine": recording.outputs["trustAnchors"]}],
        "target": {
            "configMap": {"key": "ca-bundle.crt"},
            "namespaceSelector": {
                "matchLabels": {"linkerd.io/is-control-plane": "true", "kubernetes.io/metadata.name": "mesh"}
            },
        },
    }


def test_linkerd_makes_no_configmap_waits_for_it_and_rolls_with_it(published):
    recording = run_program(published)
    control_plane = recording.named("linkerd-control-plane")
    values, bundle = control_plane.inputs["values"], recording.outputs["trustAnchors"]
    assert values["identity"] == {"issuer": {"scheme": "kubernetes.io/tls"}, "externalCA": True}
    assert "identityTrustAnchorsPEM" not in values
    roots = [fingerprint(root) for root in read_bundle(bundle)]
    assert values["podAnnotations"] == {
        "meshtrust.io/trust-anchors-sha256": recording.outputs["trustAnchorsSha256"],
        "meshtrust.io/trust-anchors": ",".join(roots),
    }


def test_trust_manager_keeps_within_its_release_and_trusts_nobody_else(published):
    recording = run_program({**published, "meshtrust:trustBundle.values": {"replicaCount": 2}})
    release = recording.named("trust-bundle-release")
    assert release.inputs["namespace"] == "trust-manager"
    assert release.inputs["version"].startswith("v")
    assert release.inputs["values"] == {
        "crds": {"enabled": True, "keep": False},
        "defaultPackage": {"enabled": False},
        "app": {"trust": {"namespace": "trust-manager"}, "webhook": {"tls": {"helmCert": {"enabled": False}}}},
        "replicaCount": 2,
    }
    assert "cert-manager-release" in recording.depends(release), "cert-manager issues its webhook's certificate"
    assert release.name in recording.depends(recording.of_type(BUNDLE)[0])


def test_without_a_cert_manager_its_chart_makes_its_certificate(published):
    recording = run_program({**published, "meshtrust:issuer.mode": "pulumi"})
    assert recording.named("trust-bundle-release").inputs["values"]["app"]["webhook"]["tls"]["helmCert"]["enabled"]
    assert "cert-manager" not in {entry.inputs["name"] for entry in recording.of_type(RELEASE)}


def test_an_installed_trust_manager_is_used(published):
    recording = run_program({**published, "meshtrust:trustBundle.install": False})
    assert recording.of_type(BUNDLE)
    assert "trust-manager" not in {entry.inputs["name"] for entry in recording.of_type(RELEASE)}
    assert "trustBundle.charts" not in recording.outputs["charts"]


def test_the_bundle_is_part_of_linkerds_release_unless_it_is_asked_for(config):
    recording = run_program(config)
    assert not recording.of_type(BUNDLE)
    assert recording.outputs["trustBundle"] == {"mode": "helm"}


def test_the_bundle_does_not_go_back_to_helm(published):
    last = run_program(published).outputs
    with pytest.raises(pulumi.RunError, match="Helm does not take over its ConfigMap"):
        run_program({**published, "meshtrust:trustBundle.mode": "helm"}, last_outputs=last)


def test_a_trust_manager_of_this_stack_does_not_go_with_the_bundle_that_it_publishes(published):
    last = run_program(published).outputs
    with pytest.raises(pulumi.RunError, match="taking it away would take its definitions, the Bundle"):
        run_program({**published, "meshtrust:trustBundle.install": False}, last_outputs=last)
