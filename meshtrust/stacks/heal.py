"""Repairs of a control plane: each only if what comes after is better, in the order in which they help each other."""

from collections.abc import Mapping
from typing import Any

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import ClusterError, ConflictError
from meshtrust.cluster.backoff import wait_until_met
from meshtrust.linkerd.certificates import cannot_sign, judge_installation
from meshtrust.linkerd.diagnosis import Diagnosis, diagnose
from meshtrust.linkerd.evidence import Mesh, read_mesh
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, RolloutError, restart, scale
from meshtrust.linkerd.webhooks.state import WebhookState, set_right
from meshtrust.names import IDENTITY, IDENTITY_ISSUER
from meshtrust.rotation.gate import Blocker, find_unserved
from meshtrust.stacks.inspection import subject_of_diagnosis
from meshtrust.stacks.progress import BlockedError, StackProgress
from meshtrust.stacks.target import Target

# A kubelet brings a changed Secret into a pod within its sync period and the lifetime of its cache, a minute each.
RELOAD_SECONDS = 180.0
# How long cert-manager may take to issue.
_ISSUE_SECONDS = 300.0
# An issuer that has ended, which a renewal replaces by one that has not.
_ENDED = "MT212"
# States of containers that new pods may leave behind, once what they ended for is put right.
_CRASHED = ("CrashLoopBackOff", "it ended with code")


async def heal(target: Target, limits: Limits, progress: StackProgress) -> bool:
    """Put right what can be put right of a control plane.

    In this order: whom the API server trusts for the webhooks; Certificates whose last attempt has failed, and whose
    Issuer can sign now, for which cert-manager would wait an hour and more by itself; the identity issuer, which
    cert-manager is asked to renew if it has ended; the identity service, which is scaled up or restarted; other
    components that are scaled to 0.
    The identity service is never restarted onto an issuer that it would refuse: while it runs, it signs with the last
    one that it took over.

    Args:
        target: The mesh.
        limits: How long a restart may take.
        progress: Where the work is reported.

    Returns:
        Whether there was anything to heal.

    Raises:
        BlockedError: Something cannot be healed; all of it is listed.
        RolloutError: A workload did not get ready.
        ClusterError: The cluster cannot be read.
    """
    healing = _Healing(target, limits, progress)
    diagnosis, _ = await healing.look()
    for state in diagnosis.webhooks:
        await healing.set_right(state)
    await healing.retry_certificates(diagnosis)
    await healing.heal_identity(*await healing.look())
    await healing.scale_up(diagnosis)
    return healing.end()


async def heal_identity(target: Target, limits: Limits, progress: StackProgress) -> bool:
    """Have every replica of the identity service sign with the issuer in the Secret; otherwise as `heal`."""
    healing = _Healing(target, limits, progress)
    await healing.heal_identity(*await healing.look())
    return healing.end()


class _Healing:
    def __init__(self, target: Target, limits: Limits, progress: StackProgress) -> None:
        self._target, self._api, self._progress = target, target.api, progress
        # What is healed is broken: no budget is to keep it so.
        self._limits = Limits(timeout_seconds=limits.timeout_seconds, minds_budgets=False)
        self._healed = False
        self._failures: list[Blocker] = []
        self._rollouts: list[RolloutError] = []

    async def look(self) -> tuple[Diagnosis, Mesh]:
        mesh = await read_mesh(self._api, self._target.namespace)
        return await diagnose(self._api, subject_of_diagnosis(self._target, mesh)), mesh

    def end(self) -> bool:
        """Return whether anything was healed, or raise what could not be."""
        if self._failures:
            self._failures += [Blocker(subject="a restart", reason=str(error)) for error in self._rollouts]
            msg = "Not all of it could be healed, and what is listed was left as it is"
            raise BlockedError(msg, self._failures)
        if self._rollouts:
            raise RolloutError("\n".join(map(str, self._rollouts)))
        return self._healed

    async def set_right(self, state: WebhookState) -> None:
        """Have the API server trust what serves a webhook, if that is known."""
        if not state.right_bundle():
            return
        try:
            await set_right(self._api, state)
        except ConflictError:
            self._fail(state.webhook.name, "was changed by something else at this moment; run this again")
        except ClusterError as error:
            self._fail(state.webhook.name, str(error))
        else:
            self._note(f"{state.webhook.name} trusts again what serves it")

    async def retry_certificates(self, diagnosis: Diagnosis) -> None:
        """Have cert-manager try again what has failed, if its Issuer can sign."""
        for certificate in await self._certificates():
            issuer = certificate["spec"]["issuerRef"]["name"]
            cause = next((entry for entry in diagnosis.findings if cannot_sign(issuer) in entry.wrong), None)
            if not cert_manager.failure_of(certificate):
                continue
            if cause is not None:
                self._fail(cause.subject, f"{cause.wrong}. {cause.fix}")
            else:
                await self._issue(certificate, "its last attempt has failed")

    async def heal_identity(self, diagnosis: Diagnosis, mesh: Mesh) -> None:
        """Have an issuer that can be served, then an identity service that serves it."""
        if diagnosis.refused or not mesh.issuer:
            if not await self._renew(diagnosis, mesh):
                return
            diagnosis, mesh = await self.look()
            for finding in diagnosis.refused:
                self._fail(finding.subject, f"{finding.wrong}, after it was renewed, too. {finding.fix}")
            if diagnosis.refused:
                return
            if "identity" not in diagnosis.down:
                await wait_until_met(self._unserved, RELOAD_SECONDS, self._notify)
        if "identity" in diagnosis.down:
            await self._bring_up(diagnosis)
        else:
            await self._restart_what_missed_it(mesh)

    async def scale_up(self, diagnosis: Diagnosis) -> None:
        """Scale up what is at 0; a mesh has no use for a control plane without pods."""
        for component, reason in diagnosis.down.items():
            if component != "identity" and diagnosis.is_scaled_down(component):
                await self._scale(self._workload(f"linkerd-{component}"), diagnosis)
            elif component != "identity":
                self._fail(f"Deployment {self._target.namespace}/linkerd-{component}", f"is down: {reason}")

    async def _renew(self, diagnosis: Diagnosis, mesh: Mesh) -> bool:
        """Have cert-manager issue again, if that can help; return whether it has."""
        before = len(self._failures)
        named = {item["spec"].get("secretName"): item for item in await self._certificates()}
        certificate = named.get(IDENTITY_ISSUER)
        rules = {finding.rule.id for finding in diagnosis.refused if finding.rule}
        if mesh.issuer and (certificate is None or rules - {_ENDED}):
            for finding in diagnosis.refused:
                self._fail(
                    finding.subject,
                    f"{finding.wrong}, which the identity service would refuse: it was not restarted. {finding.fix}",
                )
            return False
        if certificate is None:
            self._fail(mesh.issuer_source, "holds no issuer, and cert-manager has no Certificate for it")
            return False
        for finding in await judge_installation(self._api):
            self._fail(finding.subject, f"{finding.wrong}. {finding.fix}")
        if len(self._failures) > before:
            return False
        return await self._issue(certificate, "the issuer has ended, or is not there")

    async def _issue(self, certificate: Mapping[str, Any], reason: str) -> bool:
        place, name = self._target.namespace, certificate["metadata"]["name"]
        self._note(f"cert-manager is asked to issue Certificate {place}/{name} again: {reason}")
        try:
            await cert_manager.ask_for_issue(self._api, certificate, reason)
            await cert_manager.wait_issued(self._api, place, name, _ISSUE_SECONDS, self._notify)
        except ClusterError as error:
            self._fail(f"Certificate {place}/{name}", str(error))
            return False
        return True

    async def _certificates(self) -> list[dict[str, Any]]:
        try:
            return [item async for item in self._api.list(cert_manager.CERTIFICATES, namespace=self._target.namespace)]
        except ClusterError:
            return []

    async def _bring_up(self, diagnosis: Diagnosis) -> None:
        identity, reason = self._workload(IDENTITY), diagnosis.down["identity"]
        if diagnosis.is_scaled_down("identity"):
            await self._scale(identity, diagnosis)
        elif any(state in reason for state in _CRASHED):
            await self._restart(identity, "its issuer can be served now, and its next start may be minutes away")
        else:
            self._fail(str(identity), f"is down, and a restart would not change that: {reason}")

    async def _restart_what_missed_it(self, mesh: Mesh) -> None:
        blockers = await find_unserved(self._api, mesh)
        if not blockers:
            return
        if not any(entry.curable for entry in blockers):
            for entry in blockers:
                right = ". Give these credentials create on pods/portforward" if "403" in entry.reason else ""
                self._fail(entry.subject, f"{entry.reason}{right}")
            return
        if not await self._restart(self._workload(IDENTITY), "it has not taken over the issuer"):
            return
        self._failures += await find_unserved(self._api, await read_mesh(self._api, self._target.namespace))

    async def _restart(self, workload: Workload, why: str) -> bool:
        self._note(f"restarting {workload}: {why}", workload=str(workload))
        try:
            async for _ in restart(self._api, [workload], self._limits, self._notify):
                self._note(f"{workload} is ready")
        except RolloutError as error:
            self._rollouts.append(error)
            return False
        return True

    async def _scale(self, workload: Workload, diagnosis: Diagnosis) -> None:
        replicas = diagnosis.replicas
        self._note(f"scaling {workload} from 0 to {replicas}", workload=str(workload))
        try:
            await scale(self._api, workload, replicas, self._limits, self._notify)
        except RolloutError as error:
            self._rollouts.append(error)
        else:
            self._note(f"{workload} is ready")

    async def _unserved(self) -> str:
        left = await find_unserved(self._api, await read_mesh(self._api, self._target.namespace))
        return f"the identity service to take the issuer over: {left[0]}" if left else ""

    def _workload(self, name: str) -> Workload:
        return Workload(kind="Deployment", namespace=self._target.namespace, name=name)

    def _note(self, text: str, **facts: object) -> None:
        self._healed = True
        self._progress.note(text, **facts)

    def _notify(self, text: str) -> None:
        self._progress.note(text)

    def _fail(self, subject: str, reason: str) -> None:
        self._failures.append(Blocker(subject=subject, reason=reason.rstrip(".")))
