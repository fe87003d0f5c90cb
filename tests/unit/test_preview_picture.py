"""The picture of `make preview`: what linkerd.values sets is in it, and so are the warnings of the rules."""

import io

from rich.console import Console

from rehearsal import plan
from tests.recorder import stack_config


def draw(monkeypatch, config):
    """Return the picture of a stack with a configuration."""
    monkeypatch.setattr(plan, "stack_config", lambda _: config)
    monkeypatch.setenv("MESHTRUST_OFFLINE", "1")
    drawn = io.StringIO()
    plan.show_plan(plan.make_plan("dev"), "dev", Console(file=drawn, width=200))
    return drawn.getvalue()


def test_the_life_of_leaves_and_the_warnings_follow_linkerd_values(monkeypatch):
    config = {
        **stack_config("dev"),
        "meshtrust:linkerd.values": {"identity": {"issuer": {"issuanceLifetime": "36h"}}},
    }
    drawn = draw(monkeypatch, config)
    assert "36h, renewed by the proxy" in drawn
    assert "below the 36h of a proxy's certificate" in drawn


def test_a_cluster_that_another_stack_makes_and_enterprise_charts_are_in_the_picture(monkeypatch):
    config = {key: value for key, value in stack_config("dev").items() if key != "meshtrust:context"}
    config["meshtrust:cluster"] = {"fromStack": "acme/infra/prod", "output": "admin"}
    config["meshtrust:linkerd"] = {"distribution": "enterprise", "licenseSecret": "buoyant-license"}
    drawn = draw(monkeypatch, config)
    assert "the cluster: a kubeconfig that is no file" in drawn
    assert "Linkerd's control plane, under the trusted roots" in drawn
