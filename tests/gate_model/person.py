"""A person who does what the blockers of a step say, until it is safe or they are at their wits' end."""

import re

from meshtrust.linkerd.rollout import can_restart
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step
from tests.gate_model.cluster import Cluster
from tests.gate_model.pki import make_bundle
from tests.gate_model.program import Program, Run
from tests.refusals import acknowledge

_ROUNDS = 8


class StuckError(AssertionError):
    """A step that stays blocked whatever its blockers say is done."""


def persist(cluster: Cluster, program: Program, step: Step) -> Run:
    """Take a step, and do before it what its blockers say.

    Raises:
        StuckError: That does not unblock it.
        UnsafeError: A handshake fails.
    """
    history: list[str] = []
    for _ in range(_ROUNDS):
        done = program.run(step)
        if not done.blockers:
            return done
        history.append("; ".join(map(str, done.blockers)))
        if any(entry.deployable for entry in done.blockers):
            program.deploy_again()
        for blocker in done.blockers:
            _cure(cluster, program, blocker, step)
        cluster.settle()
    listed = "\n  then ".join(history)
    msg = f"{step} stays blocked though a person does what is said:\n  {listed}"
    raise StuckError(msg)


def _cure(cluster: Cluster, program: Program, blocker: Blocker, step: Step) -> None:
    """Do what one blocker asks for; nothing needs to be done if it asks to wait."""
    pod = next((pod for pod in cluster.pods if str(pod) == blocker.subject), None)
    if blocker.is_external:
        _see_to(cluster, blocker.subject, step)
        program.acknowledge(acknowledge(blocker.reason, "it was seen to"))
    elif "its template holds roots" in blocker.reason:
        for workload in cluster.workloads:
            if str(workload) == blocker.subject:
                is_taken_out = "Take the proxy out" in blocker.reason
                workload.manual_bundle = None if is_taken_out else workload.mesh.bundle
                cluster.restart(workload)
    elif pod is not None and "--force" in blocker.reason and not pod.is_reachable:
        cluster.delete_by_force(pod)
    elif blocker.curable and blocker.workload is not None and can_restart(blocker.workload):
        for workload in cluster.workloads:
            if str(workload) == str(blocker.workload):
                cluster.restart(workload)
    elif pod is not None and re.search(r"delete (its pods|that|it)|kubectl .* delete (pod|job)", blocker.reason):
        cluster.delete(pod)


def _see_to(cluster: Cluster, subject: str, step: Step) -> None:
    """See to what runs outside: it trusts both roots before a switch, and is under the new one before a retirement."""
    for entry in cluster.externals:
        if subject.endswith(f"{entry.namespace}/{entry.name}"):
            entry.trusts |= {step.after.signer, *step.after.anchors}
            if step.kind == "retire":
                entry.signer, entry.leaf = step.after.signer, None
    for mesh in cluster.meshes[1:]:
        if subject.endswith(f" {mesh.namespace}"):
            kept = tuple(sorted({*step.after.anchors, mesh.signer}))
            cluster.move(mesh, step.after.signer if step.kind == "retire" else mesh.signer, make_bundle(kept))
