"""Linkerd's enterprise distribution, and charts under other names: what a run declares."""

import pulumi
import pytest

import versions
from rehearsal.mesh.enterprise import write_charts
from tests.recorder import Secret, run_program

LICENSE = "hush-license"
RELEASE = "kubernetes:helm.sh/v3:Release"


def run(config, last=None, encrypted=(), **linkerd):
    return run_program(
        {**config, "meshtrust:linkerd": linkerd},
        last_outputs=last,
        secret_keys=[f"meshtrust:{key}" for key in encrypted],
    )


def linkerd_releases(recording):
    named = {entry.name: entry.inputs for entry in recording.of_type(RELEASE)}
    return named["linkerd-crds"], named["linkerd-control-plane"]


def test_the_enterprise_charts_come_from_buoyant_with_the_license_as_a_secret(config):
    recording = run(config, distribution="enterprise", license=f"{LICENSE}\n", encrypted=["linkerd"])
    crds, control_plane = linkerd_releases(recording)
    assert (crds["chart"], crds["name"]) == ("linkerd-enterprise-crds", "linkerd-enterprise-crds")
    assert (control_plane["chart"], control_plane["name"]) == ("linkerd-enterprise-control-plane",) * 2
    for release in (crds, control_plane):
        assert release["repositoryOpts"] == {"repo": "https://helm.buoyant.cloud"}
        assert release["version"] == versions.LINKERD_ENTERPRISE
    assert control_plane["values"]["license"] == Secret(LICENSE)
    others = [entry.inputs for entry in recording.resources if entry.inputs is not control_plane]
    assert LICENSE not in str(others) + str(recording.outputs) + str(recording.messages)


def test_a_secret_that_exists_is_named_to_the_chart(config):
    _, control_plane = linkerd_releases(run(config, distribution="enterprise", licenseSecret="buoyant-license"))
    assert control_plane["values"]["licenseSecret"] == "buoyant-license"
    assert "license" not in control_plane["values"]
    assert control_plane["values"]["identity"]["issuer"]["scheme"] == "kubernetes.io/tls", "the values of Linkerd"


def test_a_mirror_may_have_other_names_for_the_charts_and_the_releases_keep_theirs(config, tmp_path):
    names = {"crdsChart": "acme-crds", "controlPlaneChart": "acme-linkerd"}
    crds, control_plane = linkerd_releases(run(config, charts="oci://registry.example.com/mesh", **names))
    assert (crds["chart"], crds["name"]) == ("oci://registry.example.com/mesh/acme-crds", "linkerd-crds")
    assert (control_plane["chart"], control_plane["name"]) == (
        "oci://registry.example.com/mesh/acme-linkerd",
        "linkerd-control-plane",
    )
    directory = write_charts(tmp_path / "mirror", crds="acme-crds", control_plane="acme-linkerd")
    _, control_plane = linkerd_releases(run(config, charts=str(directory), **names))
    assert control_plane["chart"] == str(directory / "acme-linkerd")


def test_an_upgrade_to_the_enterprise_charts_keeps_the_releases_that_are_deployed(config):
    deployed = run(config).outputs
    assert deployed["linkerdReleases"] == ["linkerd-crds", "linkerd-control-plane"]
    recording = run(config, deployed, distribution="enterprise", licenseSecret="l")
    crds, control_plane = linkerd_releases(recording)
    assert (crds["chart"], crds["name"]) == ("linkerd-enterprise-crds", "linkerd-crds")
    assert (control_plane["chart"], control_plane["name"]) == (
        "linkerd-enterprise-control-plane",
        "linkerd-control-plane",
    )
    back = run(config, recording.outputs)
    assert linkerd_releases(back)[1]["chart"] == "linkerd-control-plane"


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "deployed before that was recorded"])
def test_another_name_of_a_release_is_refused(config, recorded):
    deployed = dict(run(config).outputs)
    if not recorded:
        del deployed["linkerdReleases"]
    with pytest.raises(pulumi.RunError) as caught:
        run(config, deployed, controlPlaneRelease="mesh")
    message = str(caught.value)
    assert 'meshtrust:linkerd.controlPlaneRelease is "mesh", and this stack has deployed that release as' in message
    assert '"linkerd-control-plane"' in message
    assert "pulumi config rm --path linkerd.controlPlaneRelease" in message
