"""A run that leaves a part out, or meets something broken: its outputs tell of nothing that is not so."""

import base64
import shlex
import shutil

import pytest
import yaml

from components.signed_certificate import how_to_forget
from tests.rehearsal.live_stack import ISSUER_SECRET, get
from tests.rehearsal.stack import NO_CHANGES, UP, charts_of_linkerd
from tests.rehearsal.test_kept_roots import BUNDLE, State, trusted

REFRESH_BY_PROGRAM = ("refresh", "--yes", "--non-interactive", "--run-program")


@pytest.fixture
def live(make_stack):
    made = make_stack("dev", issuer={"mode": "pulumi"}, certManager={"install": False})
    made.run(*UP)
    return made


def spoil(cluster, path, key, value):
    with cluster.client() as api:
        headers = {"Content-Type": "application/merge-patch+json"}
        api.patch(path, json={"data": {key: value}}, headers=headers).raise_for_status()


def test_outputs_tell_of_no_step_that_was_left_out(live, cluster):
    live.up(anchors=["2026", "2027"], signer="2026")
    before, roots = live.project.outputs(), trusted(cluster)
    live.configure(anchors=["2026"])
    for command in ((*UP, "--target", "**linkerd-namespace"), REFRESH_BY_PROGRAM):
        assert "so that its step was not taken" in live.refused(*command)
        assert live.project.outputs() == before
        assert trusted(cluster) == roots
    live.up()
    assert len(trusted(cluster)) == 1


def test_outputs_tell_of_no_upgrade_that_was_left_out(live, tmp_path):
    """The next run, a step, would take it along unnoticed."""
    before = live.project.outputs()
    charts = shutil.copytree(charts_of_linkerd(), tmp_path / "charts")
    chart = charts / "linkerd-control-plane" / "Chart.yaml"
    described = yaml.safe_load(chart.read_text())
    chart.write_text(yaml.safe_dump({**described, "version": "9999.1.1"}))
    for linkerd in ({"charts": str(charts)}, {"values": {"proxy": {"image": {"version": "edge-99.9.9"}}}}):
        said = live.refused(*UP, "--target", "**linkerd-namespace", linkerd=linkerd)
        assert "This run has left out Helm release linkerd-control-plane (--target, --exclude)" in said
        assert live.project.outputs() == before
        live.configure(linkerd={"charts": str(charts_of_linkerd())})


def test_what_is_broken_keeps_no_run_from_putting_it_right(live, cluster):
    whole = get(cluster, ISSUER_SECRET)["data"]
    spoil(cluster, ISSUER_SECRET, "tls.crt", base64.b64encode(b"no certificate").decode())
    live.run(*UP, "--refresh")
    assert get(cluster, ISSUER_SECRET)["data"] == whole
    bundle = get(cluster, BUNDLE)["data"]["ca-bundle.crt"]
    spoil(cluster, BUNDLE, "ca-bundle.crt", "no certificate")
    said = live.refused(*UP)
    assert "ConfigMap linkerd/linkerd-identity-trust-roots, which each new proxy takes its trust anchors from" in said
    assert shlex.split(said.partition("deployed last: ")[2])[:4] == ["pulumi", "stack", "output", "trustAnchors"]
    spoil(cluster, BUNDLE, "ca-bundle.crt", live.project.capture("stack", "output", "trustAnchors").stdout)
    assert get(cluster, BUNDLE)["data"]["ca-bundle.crt"].strip() == bundle.strip()
    live.run(*UP, *NO_CHANGES)


def test_a_certificate_that_would_outlive_its_root_is_forgotten_and_made_again_by_the_command_that_is_told(
    make_stack, cluster
):
    live = make_stack("dev")
    live.run(*UP)
    before = live.issuer_chain()
    _, *arguments = shlex.split(how_to_forget(State(live).urn("identity-issuer-2026-intermediate-certificate")))
    live.run(*arguments)
    # The release that waits for the certificate is forgotten with it.
    told = live.refused(*UP).partition("have Helm forget it too, which leaves all that is installed: ")[2]
    selector = shlex.split(told)[8]
    with cluster.client() as api:
        revisions = "/api/v1/namespaces/linkerd/secrets"
        api.delete(revisions, params={"labelSelector": selector}).raise_for_status()
    live.up()
    assert live.leaf_verifies()
    assert live.issuer_chain() == before, "the Certificate was taken over, and its Secret stays"
