"""Decisions of the preflight without a cluster; its questions to one are in tests/rehearsal."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.client import check_clock
from meshtrust.cluster.connection.preflight import PreflightError, check_chart_source, check_cluster_uid
from rehearsal.connection import connect
from tests.http_server import serving

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: kind-dev, context: {cluster: c, user: u}}]
current-context: kind-dev
"""


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return str(path)


def test_an_api_server_that_does_not_answer_is_one_sentence(kubeconfig):
    with pytest.raises(ClusterError, match='API server of context "kind-dev" cannot be reached'):
        asyncio.run(connect("kind-dev", kubeconfig))


@pytest.mark.parametrize(("pinned", "last"), [("", ""), ("a", ""), ("", "a"), ("a", "b")])
def test_a_stack_may_meet_its_cluster(pinned, last):
    check_cluster_uid("a", access=ClusterAccess(context="kind-dev"), pinned=pinned, last=last)


@pytest.mark.parametrize(
    ("pinned", "last", "message"),
    [
        ("b", "", 'meshtrust:clusterUid is "b"'),
        ("b", "a", 'meshtrust:clusterUid is "b"'),
        ("", "b", "This stack was last deployed to cluster b"),
    ],
)
def test_a_stack_refuses_any_other_cluster(pinned, last, message):
    with pytest.raises(PreflightError, match=message):
        check_cluster_uid("a", access=ClusterAccess(context="kind-dev"), pinned=pinned, last=last)


@pytest.fixture
def repository():
    with serving(lambda path: (200 if path == "/charts/index.yaml" else 404, b"")) as url:
        yield url


def test_a_chart_repository_that_answers_is_accepted(repository):
    asyncio.run(check_chart_source(f"{repository}/charts/", "meshtrust:linkerd.charts"))


def test_a_repository_without_an_index_is_refused(repository):
    with pytest.raises(PreflightError, match=r"meshtrust:linkerd.charts is .* does not answer at .*404"):
        asyncio.run(check_chart_source(f"{repository}/elsewhere", "meshtrust:linkerd.charts"))


def test_a_registry_that_is_not_there_is_refused():
    with pytest.raises(PreflightError, match=r"oci://127.0.0.1:1/charts"):
        asyncio.run(check_chart_source("oci://127.0.0.1:1/charts", "meshtrust:certManager.charts"))


@pytest.mark.parametrize(
    "location",
    ["https://charts.example/edge stable", "oci://ghcr.io:x/y", "https://[::1/charts", "https://a..b/charts"],
)
def test_an_address_that_is_none_is_refused(location):
    with pytest.raises(PreflightError, match=rf'^meshtrust:linkerd.charts is "{re.escape(location)}", which does not'):
        asyncio.run(check_chart_source(location, "meshtrust:linkerd.charts"))


def date_in(minutes):
    return format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)


@pytest.mark.parametrize(("minutes", "direction"), [(-60, "ahead of"), (60, "behind")])
def test_a_clock_that_is_wrong_by_an_hour_is_refused(minutes, direction):
    with pytest.raises(ClusterError, match=rf"clock is 60 minutes {direction} that of the API server.*Set the clock"):
        check_clock(date_in(minutes), 'context "kind-dev"')


def test_a_clock_that_is_off_by_seconds_will_do():
    check_clock(date_in(0.5), 'context "kind-dev"')
