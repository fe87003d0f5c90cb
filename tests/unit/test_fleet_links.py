"""Linked clusters: what is found of the two ends of a Link, and how the Links of a fleet are shown."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from meshtrust.commands.display.fleet_table import show_fleet
from meshtrust.fleet.checks import check_clusters, find_earlier_signers
from meshtrust.fleet.page import draw_page
from meshtrust.fleet.view import FleetView
from meshtrust.linkerd.external_peers import Unseen
from meshtrust.linkerd.links import Link, Links
from meshtrust.linkerd.pods import Workload
from meshtrust.pki.pem import fingerprint
from tests.fleet_views import NEW, OLD, view

IDENTITY = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local"
NOW = datetime.now(UTC)


def link(target, **spec):
    spec = {
        "targetClusterName": target,
        "targetClusterLinkerdNamespace": "linkerd",
        "gatewayIdentity": IDENTITY,
        **spec,
    }
    return Link.of({"metadata": {"namespace": "linkerd-multicluster", "name": target}, "spec": spec})


def judged(*views):
    """The findings by cluster, and the state of each Link by its ends."""
    clusters, links = check_clusters(views)
    findings = {cluster.stack: [(entry.severity, str(entry)) for entry in cluster.findings] for cluster in clusters}
    return findings, {(entry.source, entry.target or entry.link.target): entry.state for entry in links}


def test_clusters_that_are_linked_and_trust_each_other_are_well():
    found, states = judged(view("east", signed_by=NEW, links=[link("west")]), view("west", links=[link("east")]))
    assert found == {"east": [], "west": []}
    assert states == {("east", "west"): "well", ("west", "east"): "well"}


@pytest.mark.parametrize("holder", ["east", "north"])
def test_a_link_is_judged_from_both_ends_whichever_of_them_holds_it(holder):
    """Each end shows a certificate to the other."""
    other = {"east": "north", "north": "east"}[holder]
    links = {holder: [link(other)], other: []}
    found, states = judged(
        view("east", signed_by=NEW, links=links["east"]), view("north", trusts=(OLD,), links=links["north"])
    )
    assert found["east"] == []
    [(severity, text)] = found["north"]
    assert severity == "error"
    assert "1 of 1 proxies do not trust what signs in east: connections over their Links are refused" in text
    assert states == {(holder, other): "refused"}


def test_those_that_are_linked_and_those_that_are_not_are_told_apart():
    found, _ = judged(
        view("east", signed_by=NEW, links=[link("north")]), view("west", signed_by=NEW), view("north", trusts=(OLD,))
    )
    assert sorted(re.sub(r".*do not trust |\. Deploy.*", "", text) for _, text in found["north"]) == [
        "what signs in east: connections over their Links are refused",
        "what signs in west: connections from there are refused",
    ]


def test_a_bundle_that_lacks_what_signs_at_the_other_end_is_told_while_running_pods_trust_it_still():
    found, states = judged(
        view("east", signed_by=OLD, links=[link("west")]), view("west", signed_by=NEW, bundle=(NEW,))
    )
    [(severity, text)] = found["west"]
    assert severity == "error"
    assert text.startswith(
        "ConfigMap linkerd/linkerd-identity-trust-roots does not hold what signs in east: with the next restart of a "
        "proxy here connections over their Links are refused"
    )
    assert states == {("east", "west"): "refused"}


def test_certificates_that_may_still_be_under_what_signed_before_count_at_the_other_end():
    before = replace(view("east", signed_by=NEW), earlier=frozenset([fingerprint(OLD.certificate)]))
    found, states = judged(before, view("west", signed_by=NEW, trusts=(NEW,), links=[link("east")]))
    [(severity, text)] = found["west"]
    assert severity == "error"
    assert "do not trust what certificates in east may still be under: connections over their Links" in text
    assert states == {("west", "east"): "refused"}
    _, states = judged(
        replace(before, earlier=frozenset()), view("west", signed_by=NEW, trusts=(NEW,), links=[link("east")])
    )
    assert states == {("west", "east"): "well"}


def test_what_a_clusters_own_issuer_is_under_and_its_proxies_lack_is_not_told_once_more():
    """It was found when the cluster was judged by itself, and breaks more than connections from elsewhere."""
    found, states = judged(
        view("east", signed_by=NEW, links=[link("west")]), view("west", signed_by=NEW, trusts=(OLD,), bundle=(OLD, NEW))
    )
    assert found == {"east": [], "west": []}
    assert states == {("east", "west"): "refused"}


def test_a_cluster_is_not_told_of_itself_as_of_another():
    under_both = frozenset([fingerprint(OLD.certificate)])
    east, west = (replace(view(name, signed_by=NEW, trusts=(NEW,)), earlier=under_both) for name in ("east", "west"))
    found, _ = judged(east, west)
    assert ["certificates in west may" in text for _, text in found["east"]] == [True]
    assert ["certificates in east may" in text for _, text in found["west"]] == [True]


LIFE = timedelta(hours=24)


@pytest.mark.parametrize(
    ("steps", "released", "expected"),
    [
        ([("deploy", "2026", 900)], [], set()),
        ([("deploy", "2026", 900), ("introduce", "2027", 2)], [], set()),
        ([("deploy", "2026", 900), ("introduce", "2027", 2), ("switch", "2027", 1)], [], {"2026"}),
        # It has looked, and nothing is under it.
        ([("deploy", "2026", 900), ("introduce", "2027", 2), ("switch", "2027", 1)], ["2026"], set()),
        # Every certificate was renewed since.
        ([("deploy", "2026", 900), ("introduce", "2027", 99), ("switch", "2027", 26)], [], set()),
        ([("deploy", "2026", 900), ("switch", "2027", 24.5)], [], {"2026"}),
        # Taken back: what signed for a while is older and newer at once.
        ([("deploy", "2026", 900), ("switch", "2027", 3), ("switch", "2026", 1)], [], {"2027"}),
    ],
)
def test_what_signed_before_counts_until_it_is_released_or_every_certificate_has_ended(steps, released, expected):
    transitions = [
        {"step": kind, "generations": [name], "at": (NOW - timedelta(hours=hours)).isoformat()}
        for kind, name, hours in steps
    ]
    assert find_earlier_signers(transitions, frozenset(released), LIFE, NOW) == expected


@pytest.mark.parametrize(
    ("target", "spec", "severity", "message", "state"),
    [
        (
            view("west", domain="west.example.com"),
            {},
            "error",
            f"Link linkerd-multicluster/west expects {IDENTITY} of the gateway in west, where every identity ends with "
            ".serviceaccount.identity.linkerd.west.example.com: proxies here refuse that gateway",
            "refused",
        ),
        (
            view("west"),
            {"gatewayIdentity": "", "targetClusterLinkerdNamespace": "mesh"},
            "warning",
            "looks for Linkerd of west in namespace mesh, and it is in linkerd",
            "well",
        ),
        (
            view("west", deployed=False),
            {},
            "warning",
            "leads to west, which is not deployed yet: whether the two accept each other is not known",
            "unchecked",
        ),
        (
            replace(view("west", deployed=False), error="It does not answer"),
            {},
            "warning",
            "leads to west, which cannot be read: whether the two accept each other is not known",
            "unchecked",
        ),
        (
            view("elsewhere"),
            {},
            "warning",
            "leads to west, which is no cluster of this fleet: what that trusts and signs with is unknown",
            "unchecked",
        ),
    ],
)
def test_what_is_wrong_with_a_link_itself_is_told_of_the_cluster_that_holds_it(target, spec, severity, message, state):
    found, states = judged(view("east", links=[link("west", **spec)]), target)
    wrong = [entry for entry in found["east"] if entry[1].startswith("Link ")]
    assert any(entry[0] == severity and message in entry[1] for entry in wrong), found
    assert list(states.values()) == [state]
    assert found[target.stack] == []


def test_clusters_of_other_trust_domains_may_be_linked_and_the_policies_that_this_concerns_are_named():
    identity = IDENTITY.replace("cluster.local", "west.example.com")
    found, states = judged(
        view("east", links=[link("west", gatewayIdentity=identity)]), view("west", domain="west.example.com")
    )
    [(severity, text)] = found["east"]
    assert severity == "warning"
    assert (
        "ties trust domain cluster.local to west.example.com of west: policies there that name service accounts" in text
    )
    assert states == {("east", "west"): "well"}


def test_a_cluster_is_known_by_its_link_name_and_a_name_of_two_is_no_name():
    west = replace(view("production-west"), link_name="west")
    found, states = judged(view("east", links=[link("west")]), west)
    assert found["east"] == []
    assert states == {("east", "production-west"): "well"}
    found, states = judged(view("east", links=[link("west")]), west, view("west"))
    [(severity, text)] = found["east"]
    assert severity == "warning"
    assert "leads to west, as production-west, west are all called: which one it is is not known" in text
    assert states == {("east", "west"): "unchecked"}


def test_links_that_may_not_be_read_are_a_warning_with_the_right():
    east = replace(view("east"), links=Links(installed=True, error="The list of Links cannot be read: forbidden."))
    found, _ = judged(east, view("west"))
    [(severity, text)] = found["east"]
    assert severity == "warning"
    assert text.startswith("Links to other clusters are not known: The list of Links cannot be read: forbidden. Until")
    assert "deploy/rbac/read-only.yaml" in text


def test_a_link_without_any_field_leads_to_what_it_is_named_after():
    bare = Link.of({"metadata": {"namespace": "linkerd-multicluster", "name": "west"}})
    assert (bare.target, bare.gateway_identity, bare.gateway_address) == ("west", "", "")
    _, states = judged(view("east", links=[bare]), view("west"))
    assert states == {("east", "west"): "well"}


def fleet_view():
    clusters, links = check_clusters(
        [
            view(
                "east",
                signed_by=NEW,
                links=[link("west", gatewayAddress="192.0.2.7"), link("north"), link("<partner>")],
            ),
            view("west", links=[link("east")]),
            view("north", trusts=(OLD,)),
        ]
    )
    roots = {"2026": OLD.certificate, "2027": NEW.certificate}
    return FleetView(anchor_stack="anchor", roots=roots, clusters=clusters, links=links, now=NOW)


def test_what_cannot_be_seen_from_a_cluster_is_named_in_each_report_of_the_fleet():
    gateway = Workload(kind="Deployment", namespace="linkerd-multicluster", name="linkerd-gateway")
    east, west = view("east"), view("west")
    unseen = Unseen(external=("shop/vm-<1>",), links=(link("partner"),), gateways=(gateway,))
    east = replace(east, inspection=replace(east.inspection, unseen=unseen))
    fleet = FleetView(anchor_stack="anchor", roots={}, clusters=[east, west], now=NOW)
    assert [entry["unseen"] for entry in fleet.as_json()["clusters"]] == [unseen.subjects, []]
    console = Console(record=True, width=120, file=io.StringIO())
    show_fleet(fleet, console)
    shown = console.export_text()
    line = f"east     ExternalWorkload shop/vm-<1>, {gateway}"
    assert [entry.rstrip() for entry in shown.splitlines() if "vm-" in entry] == [line]
    section = draw_page(fleet).partition('<h2 id="unseen">')[2]
    assert re.findall(r'<th scope="row">(\w+)</th>', section) == ["east"]
    assert "ExternalWorkload shop/vm-&lt;1&gt;" in section
    assert str(gateway) in section
    assert 'id="unseen"' not in draw_page(fleet_view())


def test_a_machine_is_told_each_link_with_both_its_ends_and_its_state():
    found = json.loads(json.dumps(fleet_view().as_json()))
    assert [(entry["from"], entry["to"], entry["state"]) for entry in found["links"]] == [
        ("east", "west", "well"),
        ("east", "north", "refused"),
        ("east", None, "unchecked"),
        ("west", "east", "well"),
    ]
    assert found["links"][0] == {
        "from": "east",
        "to": "west",
        "namespace": "linkerd-multicluster",
        "name": "west",
        "targetClusterName": "west",
        "gatewayAddress": "192.0.2.7",
        "gatewayIdentity": IDENTITY,
        "state": "well",
    }
    assert [entry["links"] for entry in found["clusters"]] == [
        {"installed": True, "error": None},
        {"installed": True, "error": None},
        {"installed": False, "error": None},
    ]


def test_a_person_is_told_which_cluster_is_linked_to_which():
    console = Console(record=True, width=120, file=io.StringIO())
    show_fleet(fleet_view(), console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    first = lines.index("cluster  linked to")
    assert lines[first + 1 : first + 3] == ["east     west ✓, north ✗, <partner> !", "west     east ✓"]
    assert lines[first + 3] == ""


def test_the_page_shows_the_links_by_cluster_and_none_where_there_are_none():
    page = draw_page(fleet_view())
    section = page.partition('<h2 id="links">')[2]
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', section)
    shown = {stack: re.sub(r"<[^>]+>|\s+", " ", cells).split() for stack, cells in rows}
    partner = ["!", "&lt;partner&gt;,", "not", "of", "this", "fleet"]
    assert shown == {"east": ["✓", "west", "✗", "north", *partner], "west": ["✓", "east"]}
    alone = FleetView(anchor_stack="anchor", roots={}, clusters=[view("east")], now=NOW)
    assert 'id="links"' not in draw_page(alone)
