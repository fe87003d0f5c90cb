"""A rotation carried out: the configuration edited, the stack deployed, what lacks the new anchor restarted.

Nothing of it is kept in memory or in a file: each run sees from the stack's configuration, its outputs and the cluster
where the rotation stands, so that it can be stopped and taken up again at any moment.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from meshtrust.linkerd.evidence import read_mesh
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, can_restart, restart
from meshtrust.rotation.gate import Blocker, find_blockers, find_unserved
from meshtrust.rotation.generation import check_new
from meshtrust.rotation.steps import IllegalStepError, Step, Trust, find_step, plan_abort, plan_rotation
from meshtrust.stacks.heal import RELOAD_SECONDS, heal_identity
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, Reporter
from meshtrust.stacks.stack import Stack, StackError, Write
from meshtrust.stacks.target import Target

_POLL_SECONDS = 1.0
# Rounds of restarts before a workload that keeps coming back with old anchors is left to a person.
_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a rotation is carried out.

    Attributes:
        lazy: Restart nothing: wait for pods to be replaced, and for leaves to be renewed, by themselves.
        limits: How gently to restart.
        write: Takes what the deployment itself writes, line by line.
    """

    lazy: bool = False
    limits: Limits = field(default_factory=Limits)
    write: Write = print


Open = Callable[[], Awaitable[Target]]


async def rotate(open_target: Open, to: str, way: Way, reporter: Reporter, *, once: bool = False) -> bool:
    """Rotate a stack's trust anchor to a generation, from wherever it stands.

    Args:
        open_target: Connects to the stack; called before each step, so that each sees the last one's result.
        to: The generation to rotate to.
        way: How.
        reporter: Who is told.
        once: Whether to take one step only.

    Returns:
        Whether the rotation is done.

    Raises:
        IllegalStepError: The generation cannot be introduced.
        BlockedError: A step has to wait for something that this cannot restart.
        StackError: The stack cannot be read or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    while True:
        target = await open_target()
        current = _deployed(target)
        check_goal(_stack(target), target.deployed, to)
        if to in current.anchors and to not in _stack(target).configured.anchors:
            # An abort that was interrupted was about to retire it, and what is retired never comes back.
            await _deploy_again(target, way, reporter)
            continue
        step = next_step(target, to)
        if step is None:
            return True
        await take(target, step, way, reporter)
        if once:
            return not plan_rotation(step.after, to)


async def abort(open_target: Open, way: Way, reporter: Reporter, *, once: bool = False) -> bool:
    """Go back, step by step, to where the rotation began; otherwise as `rotate`.

    Raises:
        IllegalStepError: No rotation is under way.
    """
    gone_back = False
    while True:
        target = await open_target()
        current = _deployed(target)
        if _stack(target).configured != current:
            # What was configured and not deployed is where this goes away from.
            await _deploy_again(target, way, reporter)
            gone_back = True
            continue
        if current.phase == "steady" and gone_back:
            return True
        step = plan_abort(current)
        await take(target, step, way, reporter)
        gone_back = True
        if once:
            return step.after.phase == "steady"


async def _deploy_again(target: Target, way: Way, reporter: Reporter) -> None:
    """Deploy what is deployed once more, and look at the cluster first.

    A run that was killed may have changed more than the stack's state says, and what the state says is there already
    would not be deployed.
    """
    stack, current = _stack(target), _deployed(target)
    if stack.configured == current:
        reporter.note(f"the cluster does not hold what is deployed, which is deployed again: {current}")
    else:
        set_back(target, reporter)
    await asyncio.to_thread(stack.up, way.write, refresh=True)


def set_back(target: Target, reporter: Reporter) -> None:
    """Have a stack's file ask for the anchors and the signer that are deployed.

    Raises:
        StackError: Who issues was changed together with them, of which only the user knows all that it was; or the file
            cannot be edited.
    """
    stack, current = _stack(target), _deployed(target)
    mode = stack.setting("issuer.mode")
    deployed_mode = target.deployed.issuer.get("mode", mode) if target.deployed else mode
    if mode != deployed_mode:
        msg = (
            f'{stack.file} has meshtrust:issuer.mode "{mode}", and "{deployed_mode}" is deployed. Anchors and signer '
            f"are to be set back to what is deployed ({current}), which may need the mode that was deployed with them. "
            "Set that back too, and what belongs to it: "
            f"pulumi config set --stack {stack.name} --path issuer.mode {deployed_mode}. Then run the command again"
        )
        raise StackError(msg)
    stack.configure(current)
    reporter.note(f"{stack.file.name} is set back to what is deployed: {current}")


def check_goal(stack: Stack, deployed: StackOutputs | None, to: str) -> None:
    """Make sure that a stack can be rotated to a generation, before its file says so.

    Raises:
        IllegalStepError: The generation is not there, and cannot be introduced.
        StackError: The stack's file cannot be read.
    """
    if deployed is None or to in deployed.anchors:
        return
    # A root that was made elsewhere may come back under its name: the program compares it with what it was.
    brought = stack.setting("anchorCertificates") or {}
    check_new(to, retired=[name for name in deployed.retired if name not in brought])


def next_step(target: Target, to: str) -> Step | None:
    """Return the step that a stack has to take next on the way to a generation; nothing where it is there.

    A step that is configured and not deployed, as an interrupted run leaves it, comes first.

    Raises:
        StackError: The target is no stack, has not been deployed, or asks for what cannot be deployed.
    """
    stack, current = _stack(target), _deployed(target)
    return _pending(stack, current) or next(iter(plan_rotation(current, to)), None)


async def take(target: Target, step: Step, way: Way, reporter: Reporter) -> None:
    """Take a step: bring the cluster to where it is safe, edit the stack's file, deploy.

    Raises:
        BlockedError: It has to wait for something that this cannot restart, or for the rest of its fleet.
        StackError: The stack cannot be edited or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    stack = _stack(target)
    reporter.step(step)
    if not await get_ready(target, step, way, reporter):
        anchor = stack.setting("anchorStack")
        msg = (
            f"{stack.name} has told its fleet that it is ready to {step}, and has not done it yet. The anchor stack "
            f"passes that on: pulumi up --stack {anchor}. Then run the same command again"
        )
        raise BlockedError(msg, [])
    if step.kind == "switch":
        await _wait_served(target, way, reporter)


async def get_ready(target: Target, step: Step, way: Way, reporter: Reporter, *, only_pledges: bool = False) -> bool:
    """Bring the cluster to where a step is safe, edit the stack's file, and deploy.

    Args:
        target: The stack and its cluster.
        step: The step.
        way: How.
        reporter: Who is told.
        only_pledges: Whether to tell the fleet that the cluster is ready, and to take no step whatever its gate says.

    Returns:
        Whether the step was taken: a cluster of a fleet first tells the others, and takes it in a later run.

    Raises:
        BlockedError: It has to wait for something that this cannot restart.
        StackError: The stack cannot be edited or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    stack = _stack(target)
    await prepare(target, step, way, reporter)
    if stack.configured != step.after:
        stack.configure(step.after)
        reporter.note(f"{stack.file.name} now says: {step.after}")
    await asyncio.to_thread(stack.up, way.write, only_pledges=only_pledges)
    if not stack.setting("anchorStack"):
        return True
    return StackOutputs(await asyncio.to_thread(stack.outputs)).trust == step.after


async def prepare(target: Target, step: Step, way: Way, reporter: Reporter) -> None:
    """Bring the cluster to where a step is safe.

    Raises:
        BlockedError: What keeps it from being safe is nothing that this can restart.
        StackError: What is deployed cannot be deployed again, where the cluster does not hold it.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    roots = target.deployed.certificates if target.deployed else {}
    if step.kind == "retire":
        await _wait_served(target, way, reporter)
    rounds, is_deployed_again = 0, False
    while blockers := await find_blockers(
        target.api,
        target.namespace,
        step,
        roots,
        acknowledged=target.acknowledged(step),
        in_fleet=target.in_fleet,
    ):
        reporter.blocked(blockers)
        workloads = _restartable(blockers)
        if not is_deployed_again and any(entry.deployable for entry in blockers):
            is_deployed_again = True
            await _deploy_again(target, way, reporter)
        elif way.lazy:
            await asyncio.sleep(_POLL_SECONDS)
        elif workloads and rounds < _ROUNDS:
            rounds += 1
            await _restart(target, workloads, way, reporter)
        else:
            left = [entry for entry in blockers if not _is_cured(entry)]
            raise BlockedError(_incurable(step, left), left or blockers)


async def _restart(target: Target, workloads: Sequence[Workload], way: Way, reporter: Reporter) -> None:
    started, done = time.monotonic(), 0
    reporter.note(f"restarting {len(workloads)} workloads, {way.limits.at_once} at a time", workloads=len(workloads))
    async for workload in restart(target.api, workloads, way.limits, reporter.note):
        done += 1
        reporter.note(
            f"{done}/{len(workloads)} {workload} is ready ({time.monotonic() - started:.0f} s)",
            workload=str(workload),
            done=done,
        )


async def _wait_served(target: Target, way: Way, reporter: Reporter) -> None:
    """Wait until every identity replica signs with the Secret's issuer; unless lazy, restart them if one missed it."""
    deadline = time.monotonic() + RELOAD_SECONDS
    while blockers := await served_blockers(target):
        is_late = time.monotonic() > deadline
        if not way.lazy and (is_late or not any(entry.curable for entry in blockers)):
            await heal_identity(target, way.limits, reporter)
            return
        if is_late:
            deadline = math.inf
            reporter.note(
                "the identity service has not taken over the issuer, and nothing is restarted (--lazy): "
                "this waits until someone restarts it, such as meshtrust heal"
            )
        reporter.blocked(blockers)
        await asyncio.sleep(_POLL_SECONDS)
    reporter.note("every replica of the identity service signs with the issuer in the Secret")


async def served_blockers(target: Target) -> list[Blocker]:
    """Return the replicas of the identity service that are not seen to sign with the Secret's issuer.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    return await find_unserved(target.api, await read_mesh(target.api, target.namespace))


def _incurable(step: Step, left: Sequence[Blocker]) -> str:
    """Return why a step has to wait, where restarts and another deployment have done what they can."""
    if not left:
        return f"It is not safe yet to {step}: {_ROUNDS} rounds of restarts have not changed what is listed"
    started = "Jobs and bare pods go on with what they started with until they end or are deleted. "
    pods = started if any(entry.workload is not None for entry in left) else ""
    return (
        f"It is not safe yet to {step}, and no restart cures what is listed. {pods}"
        "When it is gone, run the same command again"
    )


def _restartable(blockers: Sequence[Blocker]) -> list[Workload]:
    return sorted({entry.workload for entry in blockers if entry.workload is not None and _is_cured(entry)}, key=str)


def _is_cured(blocker: Blocker) -> bool:
    return blocker.curable and blocker.workload is not None and can_restart(blocker.workload)


def _stack(target: Target) -> Stack:
    if target.stack is None:
        msg = "A rotation is of a stack. Name it: --stack"
        raise StackError(msg)
    return target.stack


def _deployed(target: Target) -> Trust:
    trust = target.deployed.trust if target.deployed else None
    if trust is None:
        msg = "This stack has not been deployed yet. Run: pulumi up"
        raise StackError(msg)
    return trust


def _pending(stack: Stack, current: Trust) -> Step | None:
    """Return the step that is configured and not deployed, as an interrupted run leaves it."""
    try:
        return find_step(current, stack.configured)
    except IllegalStepError as error:
        msg = f"{stack.file} asks for what cannot be deployed: {error}"
        raise StackError(msg) from error
