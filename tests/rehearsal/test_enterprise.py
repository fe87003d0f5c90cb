"""Linkerd's enterprise charts: a stack that moves to them, and where its license goes."""

import json

import pytest

from rehearsal.mesh.enterprise import write_charts
from tests.key_material import kept_and_shown, process_arguments
from tests.rehearsal.live_stack import write
from tests.rehearsal.stack import NO_CHANGES, UP

pytestmark = pytest.mark.soak

LICENSE = "hush-license-of-this-test"
SECRET = "/api/v1/namespaces/linkerd/secrets/buoyant-license"


def secret(**content):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "buoyant-license"}, "stringData": content}


def preview(stack):
    shown = stack.project.capture("preview", "--json", "--non-interactive")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert LICENSE not in shown.stdout + shown.stderr
    return {step["urn"].rpartition("::")[2]: step["op"] for step in json.loads(shown.stdout)["steps"]}


def test_a_stack_moves_to_the_enterprise_charts_in_place_and_keeps_its_license_to_itself(
    make_stack, cluster, linkerd_charts, tmp_path
):
    stack = make_stack("no-cert-manager")
    stack.up()
    charts = str(write_charts(tmp_path / "charts", linkerd_charts))
    enterprise = {"distribution": "enterprise", "charts": charts}

    said = stack.refused("preview", "--non-interactive", linkerd=enterprise)
    assert "meshtrust:linkerd.license is not set" in said
    said = stack.refused("preview", "--non-interactive", linkerd={"licenseSecret": "buoyant-license"})
    assert (
        'meshtrust:linkerd.licenseSecret is "buoyant-license", and Secret linkerd/buoyant-license does not exist'
        in said
    )
    write(
        cluster,
        SECRET,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "buoyant-license"}, "stringData": {"key": "x"}},
    )
    said = stack.refused("preview", "--non-interactive")
    assert 'Secret linkerd/buoyant-license has no key "license"' in said

    stack.configure(linkerd={"licenseSecret": ""})
    stack.run("config", "set", "--path", "--secret", "linkerd.license", stdin=LICENSE)
    changes = {name: op for name, op in preview(stack).items() if op != "same"}
    assert changes == {"linkerd-crds": "update", "linkerd-control-plane": "update"}
    with process_arguments() as arguments:
        written = stack.project.capture(*UP)
    assert written.returncode == 0, written.stdout + written.stderr
    stack.run(*UP, *NO_CHANGES)
    assert stack.leaf_verifies()
    places = {
        "what `up` wrote": written.stdout + written.stderr,
        "the state": stack.project.capture("stack", "export").stdout,
        "the stack's file": stack.project.file(stack.project.stack).read_text(),
        **kept_and_shown(stack.project, cluster),
        **arguments,
    }
    # Helm keeps the values of a release in a Secret, and Linkerd's chart writes its own into ConfigMap linkerd-config.
    held = {where for where, text in places.items() if LICENSE in text}
    assert any(where.startswith("values of sh.helm.release.v1.linkerd-control-plane.") for where in held), held
    assert all(where.startswith(("values of", "ConfigMaps")) for where in held), held

    for command in ("status", "verify"):
        ran = stack.project.capture_meshtrust(command, "--stack", stack.project.stack)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert LICENSE not in ran.stdout + ran.stderr

    with cluster.client() as api:
        api.delete(SECRET)
    write(cluster, SECRET, secret(license=LICENSE))
    stack.run("config", "rm", "--path", "linkerd.license")
    stack.up(linkerd={"licenseSecret": "buoyant-license"})
    with cluster.client() as api:
        assert LICENSE not in api.get("/api/v1/configmaps").text
    with cluster.client() as api:
        api.delete(SECRET)
