"""`meshtrust plan`: the remaining steps of a rotation, what blocks the next one, and what has to restart."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshtrust.commands.options import HERE, Directory, Json, console, select
from meshtrust.commands.options import write_json as write
from meshtrust.commands.rotation.rotate import AtOnce, RequiredStack, goal
from meshtrust.commands.status import phase_line, show_findings
from meshtrust.fleet.state import read_fleet_blockers
from meshtrust.linkerd.diagnosis import allowed, diagnose
from meshtrust.linkerd.evidence import Mesh, read_mesh
from meshtrust.linkerd.external_peers import Unseen, read_unseen
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import can_restart, find_obstacles
from meshtrust.lint import Finding
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.gate import Blocker, judge_step
from meshtrust.rotation.goal import find_way
from meshtrust.rotation.steps import Step, Trust
from meshtrust.stacks.inspection import subject_of_diagnosis
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import StackError
from meshtrust.stacks.target import Target, open_target

# How long a rolling restart of one workload takes, by experience; an estimate.
_RESTART = timedelta(seconds=30)
# A proxy renews its certificate at this share of its life (linkerd2-proxy ``identity-client/src/certify.rs``).
_RENEWED_AT = 0.7


@dataclass(frozen=True, kw_only=True)
class RotationPlan:
    """The rest of a rotation: its steps, what blocks the next one, and what restarts.

    Attributes:
        trust: The state now.
        steps: The steps that are left.
        blockers: What keeps the next one from being taken now.
        void: Why what the stack's file acknowledges before it has no effect, a sentence for each.
        restarts: How many proxies of each workload have to be replaced, for the whole rotation.
        obstacles: Why a restart would not replace a workload's pods, and how to change that, by workload.
        wrong: Errors of the control plane that would stop a rotation.
        unseen: Names of what the steps after the next one wait for, and that cannot be asked from the cluster.
        mesh: The mesh.
        at_once: Workloads restarted at a time.
    """

    trust: Trust
    steps: list[Step]
    blockers: list[Blocker]
    void: Sequence[str]
    restarts: Counter[Workload]
    obstacles: Mapping[Workload, str]
    wrong: Sequence[Finding]
    unseen: Sequence[str]
    mesh: Mesh
    at_once: int

    @property
    def rounds(self) -> int:
        """Number of restarts of each workload: one for each step that proxies have to know of."""
        return sum(step.kind in ("switch", "retire", "replace") for step in self.steps)

    @property
    def restarting(self) -> timedelta:
        """Estimated duration of the restarts."""
        count = sum(map(can_restart, self.restarts))
        return self.rounds * -(-count // self.at_once) * _RESTART

    @property
    def lazily(self) -> timedelta:
        """Time until leaves are renewed under the new signer, after every pod was replaced once."""
        return self.mesh.leaf_lifetime * _RENEWED_AT

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "phase": self.trust.phase,
            "steps": [
                {"step": step.kind, "generations": step.generations, "sets": str(step.after)} for step in self.steps
            ],
            "blockers": [
                {"stack": entry.stack or None, "subject": entry.subject, "reason": entry.reason}
                for entry in self.blockers
            ],
            "void": list(self.void),
            "unseen": list(self.unseen),
            "restarts": [
                {
                    "workload": str(workload),
                    "pods": pods,
                    "automatic": can_restart(workload),
                    "obstacle": self.obstacles.get(workload),
                }
                for workload, pods in sorted(self.restarts.items(), key=str)
            ],
            "findings": [
                {"severity": entry.severity, "subject": entry.subject, "wrong": entry.wrong, "fix": entry.fix}
                for entry in self.wrong
            ],
            "roundsOfRestarts": self.rounds,
            "estimatedSeconds": int(self.restarting.total_seconds()),
        }


def plan(
    *,
    stack: RequiredStack,
    to: Annotated[
        str, typer.Option(help="Generation to rotate to. Default: the goal in the stack's file, or as rotate has it.")
    ] = "",
    at_once: AtOnce = 10,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Show what is left of a rotation, what blocks its next step, and what it has to restart. Nothing is changed.

    Exit codes: 0 shown; 3 stack or cluster cannot be read.
    """
    found = asyncio.run(_look(stack, directory, to, at_once))
    if as_json:
        write(found.as_json())
    else:
        _show(found, console())


async def _look(stack: str, directory: Any, to: str, at_once: int) -> RotationPlan:
    target = await open_target(select(stack, directory))
    deployed = target.deployed
    if deployed is None or deployed.trust is None:
        msg = "This stack has not been deployed yet, so that there is nothing to rotate. Run: pulumi up"
        raise StackError(msg)
    declared = None if to else _declared_goal(target, deployed.trust)
    chosen = declared.signer if declared else to or goal(target)
    steps = _plan_steps(deployed, declared or Trust(anchors=(chosen,), signer=chosen))
    mesh = await read_mesh(target.api, target.namespace)
    root = deployed.certificates.get(chosen)
    lacking = [
        pod.workload for pod in mesh.pods if root is None or pod.may_lack(fingerprint(root)) or steps[:1] == steps[-1:]
    ]
    wrong: list[Finding] = []
    obstacles: dict[Workload, str] = {}
    if steps:
        diagnosis = await diagnose(target.api, subject_of_diagnosis(target, mesh))
        wrong += [finding for finding in diagnosis.findings if finding.severity == "error"]
        looks = find_obstacles(target.api, sorted(set(lacking), key=str))
        obstacles = await allowed(wrong, "what may keep workloads from restarting", looks, {})
    blockers: list[Blocker] = []
    void: list[str] = []
    unseen: list[str] = []
    if steps:
        acknowledged = target.acknowledged(steps[0])
        fleet = await target.read_fleet()
        blockers = await judge_step(
            target.api,
            mesh,
            steps[0],
            deployed.certificates,
            acknowledged=acknowledged,
            fleet=fleet,
        )
        void = acknowledged.find_void(steps[0], {blocker.subject: blocker.is_external for blocker in blockers})
        if steps[0].kind == "introduce":
            found = await allowed(wrong, "who trusts the roots from outside", read_unseen(target.api, mesh), Unseen())
            unseen = (found.outside_of(fleet) if fleet else found).subjects
    if target.stack and steps:
        blockers += await read_fleet_blockers(target.stack, deployed, steps[0])
    return RotationPlan(
        trust=deployed.trust,
        steps=steps,
        blockers=blockers,
        void=void,
        restarts=Counter(lacking),
        obstacles=obstacles,
        wrong=wrong,
        unseen=unseen,
        mesh=mesh,
        at_once=at_once,
    )


def _plan_steps(deployed: StackOutputs, wanted: Trust) -> list[Step]:
    """Return the steps that runs take to a goal; one, if all that is trusted has ended.

    Raises:
        IllegalStepError: All that is trusted has ended, and the goal keeps a part of it.
    """
    return list(find_way(deployed.trust, wanted, ended=deployed.ended(datetime.now(UTC))).steps)


def _declared_goal(target: Target, deployed: Trust) -> Trust | None:
    """Return the goal in the file of a stack that reconciles; None if it is reached, or the stack goes by steps."""
    stack = target.stack
    if stack is None or not stack.reconciles:
        return None
    return stack.configured if find_way(deployed, stack.configured).steps else None


def _show(rest: RotationPlan, console: Console) -> None:
    console.print(phase_line(rest.trust.phase))
    if not rest.steps:
        console.print("No step is left.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "step", "sets", "waits for"):
        table.add_column(heading, overflow="fold")
    waits = {
        "introduce": "nothing",
        "switch": "every proxy to trust it",
        "retire": "every live certificate to be under it",
        "replace": "every certificate under what has ended to end too",
    }
    for number, step in enumerate(rest.steps, start=1):
        table.add_row(str(number), str(step), str(step.after), waits[step.kind])
    console.print(table)
    pods = sum(rest.restarts.values())
    console.print(
        f"{rest.rounds} rounds of restarts of {len(rest.restarts)} workloads ({pods} pods): about "
        f"{format_left(rest.restarting)} at {rest.at_once} at a time. With --lazy the last round is left out: "
        f"certificates are under the new signer {format_left(rest.lazily)} after the switch by themselves.",
        soft_wrap=True,
    )
    by_hand = sorted(str(workload) for workload in rest.restarts if not can_restart(workload))
    _list("These cannot be restarted; they have to end", by_hand, console)
    obstacles = [f"{workload}: {obstacle}" for workload, obstacle in rest.obstacles.items()]
    _list("A restart does not replace the pods of these, and a rotation would stop there", obstacles, console)
    if rest.wrong:
        _head("The control plane has errors that would stop a rotation", console)
        show_findings(rest.wrong, console)
    _list("Later steps wait until you have seen to these, and acknowledge it", rest.unseen, console)
    if rest.blockers:
        heading = f"The next step has to wait for {len(rest.blockers)}"
        _list(heading, [str(blocker) for blocker in rest.blockers], console)
    else:
        console.print("[green]✓[/] Nothing blocks the next step.")
    _list("These acknowledgements have no effect", rest.void, console)


def _list(heading: str, lines: Sequence[str], console: Console) -> None:
    """Write lines below a heading."""
    if lines:
        _head(heading, console)
    for line in lines:
        console.print(f"  - {line}", markup=False, soft_wrap=True)


def _head(heading: str, console: Console) -> None:
    console.print(Text.assemble(("! ", "yellow"), f"{heading}:"), soft_wrap=True)
