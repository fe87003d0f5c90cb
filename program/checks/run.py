"""What may refuse a run, in previews too: all of it is decided before anything is changed."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pulumi

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import OFFLINE, Api, ClusterError
from meshtrust.cluster.connection import preflight
from meshtrust.cluster.connection.process import ClusterProcess
from meshtrust.cluster.helm_release import check_definition
from meshtrust.linkerd.webhooks.authority import IllegalAuthorityStepError
from meshtrust.names import CERTIFICATES_DEFINITION, IDENTITY_ISSUER
from meshtrust.pki.identity_suffix import IllegalRenameError, check_rename
from meshtrust.pki.issuer_mode import IllegalMoveError, check_move
from meshtrust.rotation.known_roots import Held, read_held
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.steps import IllegalStepError, Step, find_step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.anchors import brought_roots
from program.configuration.settings import Settings
from program.guard import health, issuance, releases, steps, trust_bundle, webhooks
from program.guard.last_look import LastLook
from program.membership import Membership


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """What is known once a run may go ahead.

    Attributes:
        held: The trust that the cluster holds; empty offline.
        transitions: The audit trail with this run's entries: each has step, generations, at (ISO 8601, UTC), by, gate
            (open, warned, overridden or none), and the reason and number of blockers where it was not open.
    """

    held: Held
    transitions: list[dict[str, Any]]


def _at_once(admitted: Admitted) -> "asyncio.Future[Admitted]":
    future: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
    future.set_result(admitted)
    return future


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A run that may go ahead, once it is admitted.

    Attributes:
        settings: What the run deploys: in a fleet, a run that only pledges stays at the last deployment's generations.
        pledge: What the cluster has pledged to its fleet from this run on; nothing where it is in none.
        cluster_uid: UID of the cluster, or nothing in an offline preview, which no cluster is asked about.
        issuance: What is still to be seen of the identity issuer before Linkerd is touched; nothing offline.
        admitted: What is known once the cluster has let the run pass, and failed where it has not: to be awaited
            before anything but the provider is declared.
        api: Client of the cluster; nothing offline.
        last_look: What is to be looked at once more before the cluster is changed; None if no look decided.
    """

    settings: Settings
    pledge: Pledge | None
    cluster_uid: str | None
    issuance: issuance.Issuance | None
    admitted: "asyncio.Future[Admitted]"
    api: Awaitable[Api] | None = None
    last_look: LastLook | None = None


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a cluster has answered to a run that it lets pass."""

    uid: str
    verdict: steps.Verdict
    issuance: issuance.Issuance | None
    held: Held


async def admit(settings: Settings, last: StackOutputs, fleet: Membership | None, asker: ClusterProcess) -> Admission:
    """Let a run begin, or refuse it.

    Where a run takes no step and goes where the last one went, its provider is as it was, and the engine may start it
    while the cluster is asked: that takes as long as the client takes to load. Nothing else is declared before the
    cluster has answered.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        fleet: Its place in a fleet, if any: what the others have pledged is judged too.
        asker: Who asks the cluster.

    Raises:
        pulumi.RunError: The anchors would move by more than one step, or by a step that pods in a cluster make
            unsafe; the mesh's identities would be other ones; the cluster is unreachable or another one; or a source of
            charts that this run needs does not answer.
    """
    with _refusing():
        brought = brought_roots(settings.anchor)
        step = find_step(
            last.trust, settings.trust, roots=last.roots, retired=last.retired, brought=brought, ended=_ended(last)
        )
        switches = step is not None and step.kind in ("switch", "replace")
        check_rename(last.identity_name, settings.identity_name)
        check_move(str(last.issuer.get("mode") or ""), settings.issuer.mode, switches=switches)
        webhooks.check_move(settings, last)
        trust_bundle.check_move(settings, last)
    if os.environ.get(OFFLINE) == "1":
        return await _admit_offline(settings, last, step, fleet)
    api = asyncio.create_task(asker.connect(settings.cluster.context, settings.cluster.kubeconfig))
    asked = asyncio.create_task(_ask(api, settings, last, step, fleet))
    if step is None and _stays(settings, last, fleet):
        return Admission(
            settings=settings,
            pledge=fleet.pledge if fleet else None,
            cluster_uid=last.cluster_uid,
            issuance=None,
            admitted=asyncio.create_task(_admitted(asked, last)),
            api=api,
        )
    answer = await asked
    return Admission(
        settings=answer.verdict.settings,
        pledge=answer.verdict.pledge,
        cluster_uid=answer.uid,
        issuance=answer.issuance,
        admitted=_at_once(await _admitted(asked, last)),
        api=api,
        last_look=answer.verdict.last_look,
    )


async def _admitted(asked: "asyncio.Future[_Answer]", last: StackOutputs) -> Admitted:
    answer = await asked
    return Admitted(held=answer.held, transitions=[*last.transitions, *answer.verdict.entries])


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Make a refusal of what a rule finds wrong, which the engine shows without a traceback."""
    try:
        yield
    except IllegalStepError as error:
        msg = f"meshtrust:anchors and meshtrust:signer cannot be deployed: {error}.\nNothing was changed."
        raise pulumi.RunError(msg) from None
    except (ClusterError, IllegalRenameError, IllegalMoveError, IllegalAuthorityStepError) as error:
        msg = f"{error}\nNothing was changed."
        raise pulumi.RunError(msg) from None


def _stays(settings: Settings, last: StackOutputs, fleet: Membership | None) -> bool:
    """Whether a run without a step leaves issuer and pledge as they are, and goes to the cluster by the same way."""
    cluster = settings.cluster
    if fleet and settings.anchor.signer not in fleet.pledge.accepts:
        return False
    same_way = (last.outputs.get("context"), last.outputs.get("kubeconfig")) == (cluster.context, cluster.kubeconfig)
    return same_way and cluster.uid in ("", last.cluster_uid) and not issuance.is_changed(settings, last)


async def _ask(
    connecting: Awaitable[Api], settings: Settings, last: StackOutputs, step: Step | None, fleet: Membership | None
) -> _Answer:
    with _refusing():
        api = await connecting
        uid = await _check_cluster(api, settings, last)
        await webhooks.check(api, settings, last)
        await trust_bundle.check(api, settings, last)
        held = await read_held(api, settings.linkerd.namespace)
        await health.warn(api, settings, last)
        verdict = await steps.judge(api, settings, last, step, fleet, held=held)
        issued = await issuance.check(api, verdict.settings, last)
    return _Answer(uid=uid, verdict=verdict, issuance=issued, held=held)


def _ended(last: StackOutputs) -> list[str]:
    now = datetime.now(UTC)
    return [name for name, root in last.certificates.items() if root.not_valid_after_utc <= now]


async def _admit_offline(
    settings: Settings, last: StackOutputs, step: Step | None, fleet: Membership | None
) -> Admission:
    if not pulumi.runtime.is_dry_run():
        msg = f"{OFFLINE}=1 is for previews, which plan without a cluster. Unset it to deploy."
        raise pulumi.RunError(msg)
    if step and step.kind in ("switch", "retire", "replace"):
        pulumi.log.warn(f"{OFFLINE}=1: no cluster was asked whether it is safe to {step}.")
    verdict = await steps.judge(None, settings, last, step, fleet, held=Held())
    return Admission(
        settings=verdict.settings,
        pledge=verdict.pledge,
        cluster_uid=None,
        issuance=None,
        admitted=_at_once(Admitted(held=Held(), transitions=last.transitions)),
    )


async def _check_cluster(api: Api, settings: Settings, last: StackOutputs) -> str:
    cluster = settings.cluster
    uid = await preflight.cluster_uid(api)
    preflight.check_cluster_uid(uid, context=cluster.context, pinned=cluster.uid, last=last.cluster_uid)
    await releases.check_pending(api, settings)
    await _check_cert_manager(api, settings, last)
    if settings.observability:
        await preflight.check_monitoring(api, settings.observability.namespace)
    for key, source in settings.chart_sources.items():
        # A repository's bad day must not stop a run that installs nothing from it.
        if not source.is_directory and last.charts.get(key) != str(source):
            await preflight.check_chart_source(source.location, f"meshtrust:{key}")
    return uid


async def _check_cert_manager(api: Api, settings: Settings, last: StackOutputs) -> None:
    if settings.cert_manager:
        release = (settings.cert_manager.namespace, "cert-manager")
        is_own = last.has_installed("certManager")
        await check_definition(api, CERTIFICATES_DEFINITION, release, "certManager", is_own=is_own)
    elif last.has_installed("certManager"):
        own = (settings.linkerd.namespace, IDENTITY_ISSUER)
        await cert_manager.check_removal(api, needed=settings.needs_cert_manager, own=own)
    elif settings.needs_cert_manager:
        await cert_manager.check_api(api)
