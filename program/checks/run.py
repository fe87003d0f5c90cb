"""The checks of a cluster's run, one after the other, in previews too: all is decided before anything is changed."""

import os
from dataclasses import replace
from datetime import UTC, datetime

import pulumi

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import OFFLINE, Api
from meshtrust.cluster.connection import preflight
from meshtrust.cluster.connection.client import open_cluster
from meshtrust.cluster.helm_release import check_definition
from meshtrust.cluster.openapi import preparing_document
from meshtrust.names import CERTIFICATES_DEFINITION, IDENTITY_ISSUER
from meshtrust.pki.identity_suffix import check_rename
from meshtrust.pki.issuer_mode import check_move
from meshtrust.rotation.goal import Way
from meshtrust.rotation.known_roots import Held, read_held
from meshtrust.rotation.report import report_rotation
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.checks import first_deployment, health, issuance, license_secret, releases, steps, trust_bundle, webhooks
from program.checks.plan import RunPlan
from program.checks.steps import StepDecision
from program.checks.way import plan_way, report_way, settings_at
from program.configuration.settings import Settings
from program.membership import Membership
from program.refusal import refusing


async def check_run(settings: Settings, last: StackOutputs, fleet: Membership | None) -> RunPlan:
    """Return the plan of a run, or refuse the run.

    Args:
        settings: The stack's settings.
        last: The outputs of its last deployment.
        fleet: Its place in a fleet, whose pledges are checked too; None if it is in none.

    Raises:
        pulumi.RunError: The anchors would move by more than one step, or by a step that pods in a cluster make
            unsafe; the mesh's identities would be other ones; the cluster is unreachable or another one; a source of
            charts that this run needs does not answer; or an existing mesh would lose its connectivity.
    """
    with refusing():
        way = plan_way(settings, last)
        stage = settings_at(settings, last, way.next.after if way.next else way.goal)
        _check_settings(stage, last, way.next)
        report_way(settings, way)
        if os.environ.get(OFFLINE) == "1":
            return await _plan_offline(settings, last, way, fleet)
        api = await open_cluster(settings.cluster.access, pulumi.log.warn)
        with preparing_document(api):
            uid = await _check_cluster(api, settings, last)
            held = await read_held(api, settings.linkerd.namespace)
            await health.warn(api, settings, last)
            found = await first_deployment.find_mesh(api, settings, last, held, in_fleet=fleet is not None)
            before = last
            if found.present:
                before, way = found.deployed, found.way(settings)
                check_rename(before.identity_suffix, settings.identity_suffix)
            decision = await steps.decide_step(api, settings, before, way, fleet, held=held)
            decision, held = await first_deployment.check(found, decision, last, held)
            written = found.present.secret if found.present else None
            awaits_issuer = await issuance.check(api, decision.settings, last, written)
    plan = _plan(settings, last, way, fleet, decision, api=api, uid=uid, held=held, awaits_issuer=awaits_issuer)
    return replace(plan, taken_over=found.present, signs_first=found.may_sign_first(plan.settings, last))


def _check_settings(settings: Settings, last: StackOutputs, step: Step | None) -> None:
    """Check the settings of the next state against the last deployment, without asking a cluster."""
    switches = step is not None and step.kind in ("switch", "replace")
    check_rename(last.identity_suffix, settings.identity_suffix)
    check_move(str(last.issuer.get("mode") or ""), settings.issuer.mode, switches=switches)
    webhooks.check_move(settings, last)
    trust_bundle.check_move(settings, last)
    releases.check_names(settings, last)


async def _check_cluster(api: Api, settings: Settings, last: StackOutputs) -> str:
    """Check that the run can end well on the cluster, and return the cluster's UID."""
    cluster = settings.cluster
    uid = await preflight.cluster_uid(api)
    preflight.check_cluster_uid(uid, access=cluster.access, pinned=cluster.uid, last=last.cluster_uid)
    await releases.check_others(api, settings, last)
    await releases.check_pending(api, settings)
    await license_secret.check(api, settings)
    await _check_cert_manager(api, settings, last)
    if settings.observability:
        await preflight.check_monitoring(api, settings.observability.namespace)
    for key, source in settings.chart_sources.items():
        # A repository's bad day must not stop a run that installs nothing from it.
        if not source.is_directory and last.charts.get(key) != str(source):
            await preflight.check_chart_source(source.location, f"meshtrust:{key}")
    await webhooks.check(api, settings, last)
    await trust_bundle.check(api, settings, last)
    return uid


async def _plan_offline(settings: Settings, last: StackOutputs, way: Way, fleet: Membership | None) -> RunPlan:
    if not pulumi.runtime.is_dry_run():
        msg = f"{OFFLINE}=1 is for previews, which plan without a cluster. Unset it to deploy."
        raise pulumi.RunError(msg)
    step = way.next
    if step and step.kind in ("switch", "retire", "replace"):
        pulumi.log.warn(f"{OFFLINE}=1: no cluster was asked whether it is safe to {step}.")
    decision = await steps.decide_step(None, settings, last, way, fleet, held=Held())
    # No gate was asked, so that this preview does not know what an update will enter into the audit trail.
    decision = replace(decision, entries=())
    # Without it the provider would take another address or kubeconfig for another cluster, and replace everything.
    uid = last.cluster_uid or None
    return _plan(settings, last, way, fleet, decision, api=None, uid=uid, held=Held(), awaits_issuer=False)


def _plan(
    configured: Settings,
    last: StackOutputs,
    way: Way,
    fleet: Membership | None,
    decision: StepDecision,
    *,
    api: Api | None,
    uid: str | None,
    held: Held,
    awaits_issuer: bool,
) -> RunPlan:
    settings = decision.settings
    if fleet:
        fleet.check_signed(settings)
    left = replace(way, steps=way.steps[1:]) if decision.step else way
    asks = "intermediate" in (settings.issuer.mode, configured.issuer.mode)
    generations = dict.fromkeys((*settings.anchor.generations, *configured.anchor.generations))
    return RunPlan(
        settings=settings,
        way=left,
        rotation=report_rotation(left, settings.trust, decision.waiting, last.rotation, datetime.now(UTC)),
        last=last,
        fleet=fleet,
        requested_generations=tuple(generations) if asks else (),
        api=api,
        cluster_uid=uid,
        held=held,
        pledge=decision.pledge,
        transitions=[*last.transitions, *decision.entries],
        checked_step=decision.checked_step,
        awaits_issuer=awaits_issuer,
        restorations=trust_bundle.count_restorations(settings, last, held),
    )


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
