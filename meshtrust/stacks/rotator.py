"""A rotation of one stack: edit its configuration, deploy it, restart the workloads that lack the new anchor.

The rotation keeps no state of its own. Each run reads from the stack's configuration, its outputs and the cluster how
far the rotation has come, so that it can be stopped and resumed at any moment.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from meshtrust.cluster.backoff import pauses
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, restart
from meshtrust.rotation.gate import Blocker, find_blockers, find_unserved, workloads_to_restart
from meshtrust.rotation.generation import check_new
from meshtrust.rotation.steps import IllegalStepError, Step, Trust, find_step, plan_abort, plan_rotation
from meshtrust.stacks.heal import RELOAD_SECONDS, heal_identity
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, StackProgress
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Target

# Longest pause between two looks at all pods, of which the first follow each other sooner.
_PAUSE_SECONDS = 1.0
# Runs until a step that was safe is taken: one of them may have upgraded, and nothing else.
_ATTEMPTS = 2
# Rounds of restarts before a workload whose new pods still have the old anchors is reported.
_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class RotationOptions:
    """Options of a rotation.

    Attributes:
        lazy: Restart nothing: wait until pods are replaced and leaves are renewed for other reasons.
        limits: How many workloads to restart at a time, and for how long to wait.
        goal: The state that the rotation ends in, which is written into the file of a stack that reconciles: whatever
            runs it next goes on. None to write the state after the next step.
    """

    lazy: bool = False
    limits: Limits = field(default_factory=Limits)
    goal: Trust | None = None


# Connects to a stack and its cluster.
TargetOpener = Callable[[], Awaitable[Target]]


async def rotate_stack(
    open_target: TargetOpener, to: str, options: RotationOptions, progress: StackProgress, *, once: bool = False
) -> bool:
    """Rotate a stack's trust anchor to a generation, from any phase.

    Args:
        open_target: Connects to the stack; called before each step, so that each step sees the result of the last.
        to: The generation to rotate to.
        options: Options of the rotation.
        progress: Where the work is reported.
        once: Whether to take one step only.

    Returns:
        Whether no step is left.

    Raises:
        IllegalStepError: The generation cannot be introduced.
        BlockedError: A step has to wait for something that no restart changes.
        StackError: The stack cannot be read or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    while True:
        target = await open_target()
        current = _deployed(target)
        check_goal(_stack(target), target.deployed, to)
        if to in current.anchors and to not in _stack(target).configured.anchors:
            # An interrupted abort was about to retire it, and a retired generation cannot be introduced again.
            await _deploy_again(target, progress)
            continue
        step = next_step(target, to)
        if step is None:
            return True
        goal = None if once else Trust(anchors=(to,), signer=to)
        await run_step(target, step, replace(options, goal=goal), progress)
        if once:
            return not plan_rotation(step.after, to)


async def abort_rotation(
    open_target: TargetOpener, options: RotationOptions, progress: StackProgress, *, once: bool = False
) -> bool:
    """Return, step by step, to the anchors and the signer from before the rotation; otherwise as `rotate_stack`.

    Raises:
        IllegalStepError: No rotation is under way.
    """
    gone_back, goal = False, None
    while True:
        target = await open_target()
        current = _deployed(target)
        if _stack(target).configured not in (current, goal):
            # The configured step was not deployed, and an abort does not take it.
            await _deploy_again(target, progress)
            gone_back = True
            continue
        if current.phase == "steady" and gone_back:
            return True
        step = plan_abort(current)
        goal = None if once else Trust(anchors=current.anchors[:1], signer=current.anchors[0])
        await run_step(target, step, replace(options, goal=goal), progress)
        gone_back = True
        if once:
            return step.after.phase == "steady"


async def _deploy_again(target: Target, progress: StackProgress) -> None:
    """Deploy the anchors and the signer that are deployed once more, after the engine has read the cluster.

    A run that was killed may have changed more than the stack's state records, and the engine does not deploy what its
    state has already.
    """
    stack, current = _stack(target), _deployed(target)
    if stack.configured == current:
        progress.note(f"the cluster does not hold what is deployed, which is deployed again: {current}")
    else:
        set_back(target, progress)
    await _deploy(stack, progress, refresh=True)


async def _deploy(stack: Stack, progress: StackProgress, *, refresh: bool = False, only_pledges: bool = False) -> None:
    """Deploy a stack, with the options of `Stack.up`."""
    started = time.monotonic()
    progress.note(f"pulumi up: {stack.configured}")
    await asyncio.to_thread(stack.up, progress.write_engine_line, refresh=refresh, only_pledges=only_pledges)
    progress.note(f"pulumi up has ended ({time.monotonic() - started:.0f} s)")


def set_back(target: Target, progress: StackProgress) -> None:
    """Write the anchors and the signer that are deployed into a stack's file.

    Raises:
        StackError: issuer.mode was changed in the same edit; its old settings are not recorded. Or the file cannot be
            edited.
    """
    stack, current = _stack(target), _deployed(target)
    mode = stack.setting("issuer.mode")
    deployed_mode = target.deployed.issuer.get("mode", mode) if target.deployed else mode
    if mode != deployed_mode:
        msg = (
            f'{stack.file} has meshtrust:issuer.mode "{mode}", and "{deployed_mode}" is deployed. Anchors and signer '
            f"are to be set back to what is deployed ({current}), which may need that mode. Set the mode back, with "
            f"the settings that belong to it: pulumi config set --stack {stack.name} --path issuer.mode "
            f"{deployed_mode}. Then run the command again"
        )
        raise StackError(msg)
    stack.configure(current)
    progress.note(f"{stack.file.name} is set back to what is deployed: {current}")


def check_goal(stack: Stack, deployed: StackOutputs | None, to: str) -> None:
    """Check that a stack can be rotated to a generation, before its file is edited.

    Raises:
        IllegalStepError: The generation is not deployed, and cannot be introduced.
        StackError: The stack's file cannot be read.
    """
    if deployed is None or to in deployed.anchors:
        return
    # An external root may return under its name: the program compares it with the root that was retired.
    external = stack.setting("anchorCertificates") or {}
    check_new(to, retired=[name for name in deployed.retired if name not in external])


def next_step(target: Target, to: str) -> Step | None:
    """Return the next step of a stack's rotation to a generation; None if no step is left.

    A step that is configured and not deployed, as an interrupted run leaves it, comes first.

    Raises:
        StackError: The target is not a stack, has not been deployed, or its file asks for a step that is not allowed.
    """
    stack, current = _stack(target), _deployed(target)
    return _pending(stack, current) or next(iter(plan_rotation(current, to)), None)


async def run_step(target: Target, step: Step, options: RotationOptions, progress: StackProgress) -> None:
    """Take a step: restart until it is safe, edit the stack's file, deploy, and wait until the new issuer is in use.

    Raises:
        BlockedError: The step has to wait for something that no restart changes, or for the rest of the fleet.
        StackError: The stack cannot be edited or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    stack = _stack(target)
    progress.step(step)
    if not await deploy_step(target, step, options, progress):
        raise BlockedError(_not_taken(stack, step), [])
    if step.kind == "switch":
        await _wait_served(target, options, progress)


async def deploy_step(
    target: Target, step: Step, options: RotationOptions, progress: StackProgress, *, only_pledges: bool = False
) -> bool:
    """Restart until a step is safe, edit the stack's file, and deploy.

    Args:
        target: The stack and its cluster.
        step: The step.
        options: Options of the rotation.
        progress: Where the work is reported.
        only_pledges: Whether to report to the fleet that the cluster is ready, and take no step whatever its gate says.

    Returns:
        Whether the step was taken, by this run or by another one meanwhile: a cluster of a fleet first reports that it
        is ready, and takes it in a later run.

    Raises:
        BlockedError: The step has to wait for something that no restart changes.
        StackError: The stack cannot be edited or deployed.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    stack = _stack(target)
    for attempt in range(_ATTEMPTS):
        await restart_until_safe(target, step, options, progress)
        wanted = options.goal if options.goal and stack.reconciles else step.after
        if stack.configured != wanted:
            (stack.set_goal if stack.reconciles else stack.configure)(wanted)
            progress.note(f"{stack.file.name} now says: {wanted}")
        await _deploy(stack, progress, only_pledges=only_pledges)
        if not (stack.reconciles or stack.setting("anchorStack")):
            return True
        deployed = StackOutputs(await asyncio.to_thread(stack.outputs))
        if stack.setting("anchorStack"):
            return deployed.trust is not None and step.is_taken_in(deployed.trust)
        if not _is_waiting(deployed, step):
            return True
        if attempt + 1 < _ATTEMPTS:
            progress.note(f"the run did not {step}: {_waiting_for(deployed)}. It is run again")
    return False


def _is_waiting(deployed: StackOutputs, step: Step) -> bool:
    """Whether a run that ended well reports that it has not taken a step."""
    return deployed.rotation is not None and deployed.rotation.next == step.name


def _not_taken(stack: Stack, step: Step) -> str:
    """Return why a run has ended well and has not taken a step."""
    if anchor := stack.setting("anchorStack"):
        return (
            f"{stack.name} has pledged to its fleet that it is ready to {step}, and has not taken that step yet. The "
            f"anchor stack passes that on: pulumi up --stack {anchor}. Then run the same command again"
        )
    waiting = _waiting_for(StackOutputs(stack.outputs()))
    return (
        f"It is not safe yet to {step}: {waiting}. The next run of `pulumi up` goes on, or run the same command again"
    )


def _waiting_for(deployed: StackOutputs) -> str:
    report = deployed.rotation
    return "; ".join(report.waiting_for) if report and report.waiting_for else "the stack's outputs do not say why"


async def restart_until_safe(target: Target, step: Step, options: RotationOptions, progress: StackProgress) -> None:
    """Restart workloads until a step is safe.

    Raises:
        BlockedError: The step has to wait for something that no restart changes.
        StackError: The cluster does not hold what is deployed, and it cannot be deployed again.
        ClusterError: The cluster cannot be read or changed.
        RolloutError: A restarted workload did not get ready.
    """
    roots = target.deployed.certificates if target.deployed else {}
    if step.kind == "retire":
        await _wait_served(target, options, progress)
    fleet = await target.read_fleet()
    rounds, is_deployed_again = 0, False
    waits = pauses(_PAUSE_SECONDS)
    while blockers := await find_blockers(
        target.api,
        target.namespace,
        step,
        roots,
        acknowledged=target.acknowledged(step),
        fleet=fleet,
    ):
        progress.wait_for(blockers)
        workloads = workloads_to_restart(blockers)
        if not is_deployed_again and any(entry.deployable for entry in blockers):
            is_deployed_again = True
            await _deploy_again(target, progress)
        elif options.lazy:
            await asyncio.sleep(next(waits))
        elif workloads and rounds < _ROUNDS:
            rounds += 1
            await _restart(target, workloads, options, progress)
        else:
            left = [entry for entry in blockers if not entry.is_cured_by_restart]
            raise BlockedError(_incurable(step, left), left or blockers)


async def _restart(
    target: Target, workloads: Sequence[Workload], options: RotationOptions, progress: StackProgress
) -> None:
    started, done = time.monotonic(), 0
    progress.note(
        f"restarting {len(workloads)} workloads, {options.limits.at_once} at a time", workloads=len(workloads)
    )
    async for workload in restart(target.api, workloads, options.limits, progress.note):
        done += 1
        progress.note(
            f"{done}/{len(workloads)} {workload} is ready ({time.monotonic() - started:.0f} s)",
            workload=str(workload),
            done=done,
        )


async def _wait_served(target: Target, options: RotationOptions, progress: StackProgress) -> None:
    """Wait until every identity replica signs with the Secret's issuer; restart them if one missed it, unless lazy."""
    deadline, waits = time.monotonic() + RELOAD_SECONDS, pauses()
    while blockers := await served_blockers(target):
        is_late = time.monotonic() > deadline
        if not options.lazy and (is_late or not any(entry.curable for entry in blockers)):
            await heal_identity(target, options.limits, progress)
            return
        if is_late:
            deadline = math.inf
            progress.note(
                "the identity service has not reloaded the issuer, and nothing is restarted (--lazy): "
                "this waits until someone restarts it, such as meshtrust heal"
            )
        progress.wait_for(blockers)
        await asyncio.sleep(next(waits))
    progress.note("every replica of the identity service signs with the issuer in the Secret")


async def served_blockers(target: Target) -> list[Blocker]:
    """Return the replicas of the identity service that do not sign with the Secret's issuer, as far as can be seen.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    return await find_unserved(target.api, await read_mesh(target.api, target.namespace))


def _incurable(step: Step, left: Sequence[Blocker]) -> str:
    """Return why a step has to wait when neither restarts nor another deployment help."""
    if not left:
        return f"It is not safe yet to {step}: {_ROUNDS} rounds of restarts have not cured what is listed"
    started = "Jobs and bare pods keep the anchors that they started with until they end or are deleted. "
    pods = started if any(entry.workload is not None for entry in left) else ""
    return (
        f"It is not safe yet to {step}, and no restart cures what is listed. {pods}"
        "When it is gone, run the same command again"
    )


def _stack(target: Target) -> Stack:
    if target.stack is None:
        msg = "Only a stack can be rotated. Name it: --stack"
        raise StackError(msg)
    return target.stack


def _deployed(target: Target) -> Trust:
    trust = target.deployed.trust if target.deployed else None
    if trust is None:
        msg = "This stack has not been deployed yet. Run: pulumi up"
        raise StackError(msg)
    return trust


def _pending(stack: Stack, current: Trust) -> Step | None:
    """Return the step that is configured and not deployed, as an interrupted run leaves it; None if a goal is."""
    try:
        return find_step(current, stack.configured)
    except IllegalStepError as error:
        if stack.reconciles:
            return None
        msg = f"{stack.file} asks for a step that is not allowed: {error}"
        raise StackError(msg) from error
