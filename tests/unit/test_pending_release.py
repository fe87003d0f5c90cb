"""Helm releases that are half done: since when, and whose they are."""

import asyncio
import base64
import gzip
import json
from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.pending_release import AT_WORK, PendingRevision, check_owner, find_pending
from rehearsal.connection import connect
from tests.api_server import holding

SECRETS = "/api/v1/namespaces/linkerd/secrets"
MARK = "meshtrust organization/meshtrust/prod"


def pending(seconds):
    created = datetime.now(UTC) - timedelta(seconds=seconds)
    return {"metadata": {"name": "sh.helm.release.v1.x.v2", "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}"}}


def finished(description):
    """A deployed revision, as Helm keeps it."""
    chart = {"metadata": {"name": "linkerd-crds", "version": "1"}}
    release = {"name": "linkerd-crds", "chart": chart, "info": {"description": description}}
    content = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    return {"metadata": {"namespace": "linkerd", "name": "v1"}, "data": {"release": content.decode()}}


def ask(tmp_path, items, question):
    async def run(kubeconfig):
        return await question(await connect("dev", kubeconfig))

    with holding({SECRETS: {"metadata": {}, "items": items}}, tmp_path) as kubeconfig:
        return asyncio.run(run(kubeconfig))


@pytest.mark.parametrize(("seconds", "is_young"), [(1, True), (AT_WORK.seconds + 5, False)])
def test_a_revision_has_the_age_of_helms_work_on_it(tmp_path, seconds, is_young):
    [found] = ask(tmp_path, [pending(seconds)], lambda api: find_pending(api, [("linkerd", "linkerd-crds")]))
    assert (found.release, found.secret) == ("linkerd-crds", "sh.helm.release.v1.x.v2")
    assert (found.age < AT_WORK) is is_young


REVISION = PendingRevision(namespace="linkerd", release="linkerd-crds", secret="v2", age=timedelta(hours=1))


@pytest.mark.parametrize("items", [[], [finished(MARK)]])
def test_a_release_that_this_stack_deployed_last_or_that_was_never_finished_is_its_own(tmp_path, items):
    ask(tmp_path, items, lambda api: check_owner(api, REVISION, MARK, "helm --kube-context kind"))


def test_a_release_that_another_tool_deployed_last_is_left_to_it(tmp_path):
    with pytest.raises(ClusterError) as caught:
        ask(
            tmp_path,
            [finished("Upgrade complete")],
            lambda api: check_owner(api, REVISION, MARK, "helm --kube-context kind"),
        )
    assert "Helm release linkerd/linkerd-crds is half done, and was last deployed by another tool" in str(caught.value)
    assert "helm --kube-context kind -n linkerd rollback linkerd-crds" in str(caught.value)
