"""The program of a cluster's stack: it checks the run, declares the resources, and waits until they are deployed."""

import pulumi

from meshtrust.stacks.outputs import StackOutputs
from program.checks import check_enrolment, check_run
from program.checks.replacement import keep_from_replacement
from program.cluster_access import with_kubeconfig
from program.configuration.settings import Settings
from program.declare.cluster import declare_cluster, declare_provider, declare_requests
from program.declare.outputs import cluster_outputs
from program.declare.trust_anchor import declare_trust_anchor
from program.membership import enrol, read_membership
from program.wait.deployment import wait_until_deployed
from program.wait.left_out import check_releases
from program.wait.releases import clear_pending_releases
from program.wait.restarts import restart_for_next_step


async def run_cluster_stack(settings: Settings, last: StackOutputs) -> pulumi.Inputs:
    """Run the stack and return its outputs.

    Args:
        settings: The stack's settings.
        last: The outputs of its last deployment.

    Raises:
        pulumi.RunError: The run is refused.
        SystemExit: The cluster does not become what was declared.
    """
    settings = await with_kubeconfig(settings)
    fleet = await read_membership(settings, last)
    settings = settings.with_fleet(fleet.roots, fleet.anchor.link_names.values()) if fleet else settings
    if fleet and fleet.needs_enrolment:
        await check_enrolment(settings)
        asked = settings.anchor.generations if settings.issuer.mode == "intermediate" else ()
        return enrol(fleet, declare_requests(settings.issuer.trust_domain, asked), settings.link_name)

    plan = await check_run(settings, last, fleet)

    keep_from_replacement(plan)
    cluster = declare_provider(plan)
    anchor = await declare_trust_anchor(plan.settings.anchor, last, plan.held)
    await clear_pending_releases(plan)
    declared = declare_cluster(plan, anchor, cluster)

    await wait_until_deployed(plan, declared.linkerd.control_plane, anchor.bundle, declared.issued)
    await check_releases(declared.releases)
    rotation = await restart_for_next_step(plan, anchor)
    return cluster_outputs(plan, declared, rotation)
