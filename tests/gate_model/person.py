"""A person who does what the blockers of a step say, until it is safe or they are at their wits' end."""

from meshtrust.gate import Blocker
from meshtrust.rotation import Step
from tests.gate_model.cluster import Cluster
from tests.gate_model.pods import Pod, Workload
from tests.gate_model.program import Program, Run

_ROUNDS = 6
_RESTARTED = ("Deployment", "StatefulSet", "DaemonSet", "Rollout", "ReplicaSet")


class Stuck(AssertionError):
    """A step that stays blocked whatever its blockers say is done."""


def persist(cluster: Cluster, program: Program, step: Step) -> Run:
    """Take a step, and do before it what its blockers say.

    Raises:
        Stuck: That does not unblock it.
        Unsafe: A handshake fails.
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
    raise Stuck(msg)


def _cure(cluster: Cluster, program: Program, blocker: Blocker, step: Step) -> None:
    pod = _find_pod(cluster, blocker)
    if blocker.workload is None:
        if not blocker.deployable:
            program.deploy_again()
        return
    workload = _find_workload(cluster, blocker, pod)
    if blocker.curable and workload is not None and workload.kind in _RESTARTED:
        restarted = {id(entry) for entry in cluster.workloads if entry is workload}
        if restarted:
            cluster.restart(workload)
    elif pod is not None:
        cluster.delete(pod)


def _find_pod(cluster: Cluster, blocker: Blocker) -> Pod | None:
    return next((pod for pod in cluster.pods if str(pod) == blocker.subject), None)


def _find_workload(cluster: Cluster, blocker: Blocker, pod: Pod | None) -> Workload | None:
    if pod is not None:
        return pod.workload
    return next((entry for entry in cluster.workloads if str(entry) == str(blocker.workload)), None)
