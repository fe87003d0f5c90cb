"""Linkerd's enterprise distribution, and charts under other names: what a run declares."""

import asyncio
import base64
import gzip
import json

import pulumi
import pytest

import versions
from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.takeover.adoption import AdoptionError, InstallLocation, plan_adoption
from program.checks import license_secret, releases
from program.configuration.settings import Settings, load_settings
from rehearsal.mesh.enterprise import write_charts
from rehearsal.mocks import engine_config
from tests.fake_cluster import FakeCluster
from tests.recorder import Secret, run_program
from tests.unit.every_command import make_mesh

LICENSE = "hush-license"
SECRETS = "api/v1/namespaces/linkerd/secrets"
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


def held_release(name, chart, *, version="2.19.4", **values):
    release = {"name": name, "chart": {"metadata": {"name": chart, "version": version}}, "config": values}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    return {"metadata": {"name": f"sh.helm.{name}", "namespace": "linkerd"}, "data": {"release": packed.decode()}}


def adopting(**values):
    """The plan of an adoption from Buoyant's charts with these values of the control plane."""
    mesh = make_mesh()
    mesh.objects[SECRETS] = [
        held_release("linkerd-enterprise-crds", "linkerd-enterprise-crds"),
        held_release("mesh", "linkerd-enterprise-control-plane", version="2.15.2", **values),
    ]
    place = InstallLocation(access=ClusterAccess(context="prod"), namespace="linkerd", charts="")
    return plan_adoption(mesh, place)


def test_a_release_whose_values_are_below_a_chart_of_its_chart_cannot_be_taken_over():
    """The enterprise chart had Linkerd's own as a chart of its own, and its values below that one's name."""
    issuer = {"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}}
    with pytest.raises(AdoptionError) as caught:
        asyncio.run(adopting(**{"linkerd-control-plane": issuer, "licenseSecret": "buoyant-license"}))
    assert str(caught.value) == (
        "Release mesh is of chart linkerd-enterprise-control-plane 2.15.2, which has its values below "
        "linkerd-control-plane. Upgrade to a version that has them at the top, such as 2.19, and adopt that."
    )
    adoption = asyncio.run(adopting(**issuer, licenseSecret="buoyant-license"))
    assert adoption.config["linkerd"] == {
        "namespace": "linkerd",
        "distribution": "enterprise",
        "licenseSecret": "buoyant-license",
        "controlPlaneRelease": "mesh",
        "version": "2.15.2",
        "crdsVersion": "2.19.4",
        "installGatewayApi": False,
        "values": {},
    }


def settings_of(config, **linkerd):
    pulumi.runtime.set_all_config(engine_config({**config, "meshtrust:linkerd": linkerd}))
    settings = load_settings(StackOutputs({}))
    assert isinstance(settings, Settings)
    return settings


@pytest.mark.parametrize("chart", ["linkerd-control-plane", "linkerd-enterprise-control-plane"])
def test_a_release_of_another_name_is_to_be_named_before_a_first_deployment(config, chart):
    """Helm would find its objects in the middle of the run, and they belong to one release."""
    cluster = FakeCluster()
    cluster.objects[SECRETS] = [held_release("mesh", chart), held_release("viz", "linkerd-viz")]
    check = releases.check_others(cluster, settings_of(config), StackOutputs({}))
    with pytest.raises(ClusterError) as caught:
        asyncio.run(check)
    assert f"chart {chart} is installed as Helm release linkerd/mesh" in str(caught.value)
    assert "pulumi config set --path linkerd.controlPlaneRelease mesh" in str(caught.value)
    named = settings_of(config, controlPlaneRelease="mesh")
    asyncio.run(releases.check_others(cluster, named, StackOutputs({})))


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({}, "does not exist"),
        ({"data": {"key": "eA=="}}, 'has no key "license"'),
        ({"data": {"license": ""}}, 'has nothing under its key "license"'),
        ({"data": {"license": "IAo="}}, 'has nothing under its key "license"'),
        ({"data": {"license": "eA=="}}, ""),
    ],
)
def test_a_license_that_a_secret_is_to_have_is_looked_for_before_anything_is_changed(config, found, wrong):
    cluster = FakeCluster()
    if found:
        cluster.objects[f"{SECRETS}/buoyant-license"] = {"metadata": {"name": "buoyant-license"}, **found}
    settings = settings_of(config, distribution="enterprise", licenseSecret="buoyant-license")
    if not wrong:
        asyncio.run(license_secret.check(cluster, settings))
        return
    with pytest.raises(ClusterError) as caught:
        asyncio.run(license_secret.check(cluster, settings))
    message = str(caught.value)
    assert f"Secret linkerd/buoyant-license {wrong}" in message
    assert (
        "kubectl --context kind-test -n linkerd create secret generic buoyant-license --from-file=license=" in message
    )
