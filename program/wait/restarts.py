"""Restarts by the run itself, once Linkerd is ready: of the workloads that the next step of a rotation waits for.

Only with ``rotation.restart: workloads``. A run that is killed meanwhile loses nothing: the next one looks again.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pulumi
from cryptography import x509

from components.trust_anchor import TrustAnchor
from meshtrust.cluster.api import Api, ClusterError
from meshtrust.cluster.backoff import pauses
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, RolloutError, find_obstacles, restart
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.gate import Blocker, find_unserved, workloads_to_restart
from meshtrust.rotation.pledge import find_fleet_blockers
from meshtrust.rotation.report import NAMED, RotationReport
from meshtrust.rotation.steps import Step
from meshtrust.stacks.heal import RELOAD_SECONDS
from program.checks.evidence import look
from program.checks.plan import RunPlan

# Rounds of restarts, after which a workload whose new pods still block is left to the next run.
_ROUNDS = 3


async def restart_for_next_step(plan: RunPlan, anchor: TrustAnchor) -> RotationReport:
    """Restart what the next step to the goal waits for, and return the report of the rotation after that.

    Workloads are restarted in waves that keep to disruption budgets, and no further one is begun once the time of
    ``rotation.restartTimeoutSeconds`` is over. What no restart cures is in the report, and the run ends well.

    Args:
        plan: The plan of the run, which has been deployed.
        anchor: The trust anchor.
    """
    step, settings = plan.way.next, plan.settings
    is_asked = settings.rotation.restart == "workloads" and step is not None and step.kind in ("switch", "retire")
    if not is_asked or plan.api is None or step is None or pulumi.runtime.is_dry_run():
        return plan.rotation
    roots = {
        name: read_bundle(await signer.certificate_pem.future() or "")[0] for name, signer in anchor.signers.items()
    }
    restarts = _Restarts(plan, plan.api, step, roots)
    try:
        async with asyncio.timeout(settings.rotation.restart_timeout_seconds):
            await restarts.run()
    except TimeoutError:
        pulumi.log.warn(
            f"After {settings.rotation.restart_timeout_seconds} seconds this run restarts nothing more "
            "(meshtrust:rotation.restartTimeoutSeconds). The next run goes on."
        )
    except (RolloutError, ClusterError) as error:
        pulumi.log.warn(f"{error}\nThis run restarts nothing more. The next run goes on.")
    if restarts.left is None:
        return plan.rotation
    waiting = [*restarts.left, *_find_elsewhere(plan, step)]
    return replace(
        plan.rotation, waiting_for=tuple(str(entry) for entry in waiting[:NAMED]), waiting_count=len(waiting)
    )


class _Restarts:
    """The restarts of one run.

    Attributes:
        left: What still blocks the step, as it was last seen; None before the first look.
    """

    def __init__(self, plan: RunPlan, api: Api, step: Step, roots: Mapping[str, x509.Certificate]) -> None:
        self._plan, self._api, self._step, self._roots = plan, api, step, roots
        self._namespace = plan.settings.linkerd.namespace
        self.left: list[Blocker] | None = None

    async def run(self) -> None:
        """Restart until nothing blocks the step that a restart cures.

        Raises:
            RolloutError: A workload did not get ready.
            ClusterError: The cluster cannot be read or changed.
        """
        if self._step.kind == "retire":
            await self._wait_until_served()
        for _ in range(_ROUNDS):
            self.left = await self._look()
            workloads = await self._restartable(self.left)
            if not workloads:
                return
            await self._restart(workloads)
        self.left = await self._look()

    async def _wait_until_served(self) -> None:
        """Wait until the identity service signs with the new issuer: a pod that restarts before gets an old leaf."""
        deadline = time.monotonic() + RELOAD_SECONDS
        for pause in pauses():
            unserved = await find_unserved(self._api, await read_mesh(self._api, self._namespace))
            if not unserved or time.monotonic() > deadline:
                return
            await asyncio.sleep(pause)

    async def _look(self) -> list[Blocker]:
        plan = self._plan
        return await look(self._api, plan.settings, plan.last, self._step, self._roots, taken=len(plan.transitions))

    async def _restartable(self, blockers: Sequence[Blocker]) -> list[Workload]:
        workloads = workloads_to_restart(blockers)
        obstacles = await find_obstacles(self._api, workloads)
        for workload, obstacle in obstacles.items():
            pulumi.log.warn(f"{workload} is not restarted: {obstacle}.")
        return [workload for workload in workloads if workload not in obstacles]

    async def _restart(self, workloads: Sequence[Workload]) -> None:
        count, done, started = len(workloads), 0, time.monotonic()
        pulumi.log.info(f"Restarting {count} workloads so that the next run can {self._step}.")
        async for workload in restart(self._api, workloads, Limits(), _report):
            done += 1
            _report(f"{done}/{count} {workload} is ready ({time.monotonic() - started:.0f} s)")


def _report(text: str) -> None:
    """Show a line of progress, which the engine keeps out of the run's final messages."""
    pulumi.log.info(text, ephemeral=True)


def _find_elsewhere(plan: RunPlan, step: Step) -> list[Blocker]:
    """Return what the step waits for in the rest of the fleet, by the pledges that the anchor stack has passed on."""
    if plan.fleet is None or plan.pledge is None:
        return []
    return find_fleet_blockers(plan.fleet.name, plan.pledge, step, plan.fleet.anchor.pledges)
