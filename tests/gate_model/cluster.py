"""The cluster of the model: its processes, and what kubelets, controllers and clocks do with them as time goes on.

Rules, by their sources: linkerd2-proxy ``linkerd/meshtls`` and ``identity-client/src/certify.rs`` (anchors fixed for
the life of a proxy, its own new leaf validated, renewal at 70 %); linkerd2 ``controller/cmd/identity/main.go``,
``pkg/identity/service.go`` and ``pkg/tls/creds_watcher.go`` (anchors read once, issuer reloaded, or missed: issue
15109); ``controller/proxy-injector/webhook.go`` (the mounted bundle is read at each injection); Kubernetes
``pkg/kubelet`` (a mounted object is written within the sync period and the cache's life; a ``configMapKeyRef`` is
resolved as the container starts).
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshtrust.pki.pem import sha256_hex
from tests.gate_model.mesh import Mesh
from tests.gate_model.oracle import UnsafeError, check_handshakes
from tests.gate_model.pki import START, Leaf, make_bundle, make_issuer, make_leaf
from tests.gate_model.pods import CONTROL_PLANE, Mount, Pod, Proxy, Workload

# cert-manager: duration 48h, renewBefore 25h, as the program's Certificate has it.
_RENEWED_AFTER = timedelta(hours=23)
# Within this an operator has seen that a replica missed its reload: `meshtrust verify` is an alert.
_HEALED_AFTER = timedelta(hours=20)
_RETRY = timedelta(seconds=30)
# What a kubelet takes at most: its sync period, and the life of its cache.
_SYNC_SECONDS = 120


@dataclass(eq=False)
class External:
    """A proxy on a machine outside of the cluster, whose certificate comes from SPIRE.

    Attributes:
        namespace: Namespace of its ExternalWorkload.
        name: Its name.
        trusts: The generations that it trusts.
        signer: The generation that SPIRE signs under.
        leaf: Its certificate.
    """

    namespace: str
    name: str
    trusts: frozenset[str]
    signer: str
    leaf: Leaf | None = None


class Cluster:
    """The cluster.

    Attributes:
        now: The time.
        meshes: Installations of Linkerd; the first is the program's.
        workloads: What makes pods.
        pods: Pods, ended ones too.
        externals: Proxies outside.
    """

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = random.Random(seed)  # noqa: S311
        self.meshes: list[Mesh] = []
        self.workloads: list[Workload] = []
        self.pods: list[Pod] = []
        self.externals: list[External] = []
        self._numbers = itertools.count(1)

    def install(
        self,
        namespace: str,
        generation: str,
        *,
        by_trust_manager: bool = False,
        fixed_end: bool = False,
        is_old: bool = False,
    ) -> Mesh:
        """Install Linkerd under a generation, and return it once its pods run."""
        end = START + timedelta(days=90) if fixed_end else None
        mesh = Mesh(
            namespace=namespace,
            by_trust_manager=by_trust_manager,
            bundle=make_bundle((generation,)),
            secret=make_issuer(generation, self.now, end),
            signer=generation,
            fixed_end=end,
            is_old=is_old,
        )
        mesh.annotate(mesh.bundle)
        mesh.written["helm"] = self.now
        self.meshes.append(mesh)
        for component in CONTROL_PLANE:
            self.workloads.append(
                Workload(
                    kind="Deployment",
                    namespace=namespace,
                    name=f"linkerd-{component}",
                    mesh=mesh,
                    replicas=1 if component == "destination" else 2,
                    component=component,
                    labels={"linkerd.io/control-plane-component": component, "linkerd.io/control-plane-ns": namespace},
                    is_sidecar=component != "identity",
                )
            )
        self.advance(timedelta(minutes=3))
        return mesh

    # What people and controllers do.

    def publish(self, mesh: Mesh, bundle: str, manager: str = "helm") -> None:
        """Write the bundle into the ConfigMap; kubelets bring it into pods later."""
        if bundle == mesh.bundle:
            return
        mesh.previous, mesh.bundle = mesh.bundle, bundle
        mesh.written[manager] = self.now
        for pod in self.pods:
            if pod.mesh is mesh and pod.trust_roots is not None:
                self._will_sync(pod.trust_roots)

    def order(self, mesh: Mesh, signer: str) -> None:
        """Change the Certificate, which cert-manager issues again after that."""
        if mesh.signer != signer:
            mesh.signer = signer
            mesh.issues = self.now + timedelta(seconds=self.random.randint(1, 20))

    def release(self, mesh: Mesh, bundle: str) -> None:
        """Deploy the control plane's templates: its pods roll where that changes them."""
        before = mesh.annotations
        mesh.annotate(bundle)
        if mesh.annotations != before:
            for workload in self.workloads:
                if workload.mesh is mesh and workload.component:
                    workload.revision += 1
            self._reconcile()

    def restart(self, workload: Workload) -> None:
        """Restart a workload as ``kubectl rollout restart`` does, pods of OnDelete one by one too."""
        workload.revision += 1
        if workload.is_on_delete:
            for pod in self.pods_of(workload):
                self.delete(pod)
        self._reconcile()

    def move(self, mesh: Mesh, signer: str, bundle: str) -> None:
        """Bring another installation to a signer and a bundle, all its pods with it, as its own operators do."""
        if mesh.bundle != bundle:
            self.publish(mesh, bundle)
            self.release(mesh, bundle)
            self.settle()
            self._restart_all(mesh)
        if mesh.signer != signer:
            self.order(mesh, signer)
            self.settle()
            self._restart_all(mesh)

    def _restart_all(self, mesh: Mesh) -> None:
        """Restart the identity service, a replica of which may have missed its reload, and the others after it."""
        for is_identity in (True, False):
            for workload in self.workloads:
                if workload.mesh is mesh and (workload.component == "identity") == is_identity:
                    self.restart(workload)
            self.settle()
            for pod in self._of(mesh):
                if (
                    pod.workload is not None
                    and (pod.component == "identity") == is_identity
                    and pod.revision != pod.workload.revision
                ):
                    self.delete_by_force(pod)

    def delete(self, pod: Pod, seconds: int | None = None) -> None:
        """Delete a pod; it goes on for its grace period."""
        if pod.deleted is None:
            pod.deleted = self.now
            pod.gone = self.now + timedelta(seconds=self.random.randint(1, 60) if seconds is None else seconds)

    def delete_by_force(self, pod: Pod) -> None:
        """Delete a pod for good, as of a node that is switched off."""
        self.pods.remove(pod)

    def restart_proxy(self, pod: Pod) -> None:
        """Restart the container of a pod's proxy in place, as after a crash."""
        if pod.proxy is not None:
            pod.restarts += 1
            self._start_proxy(pod)

    def restart_program(self, pod: Pod) -> None:
        """Restart a pod's other container in place: it reads what its node has last brought into its mounts."""
        if pod.phase == "Running" and pod.program_started is not None:
            pod.program_restarts += 1
            pod.program_started = self.now
            if pod.component == "identity":
                pod.start_identity()

    def end(self, pod: Pod, phase: str) -> None:
        """End a pod's containers for good."""
        pod.phase, pod.proxy = phase, None

    def add(self, workload: Workload) -> None:
        """Add a workload."""
        self.workloads.append(workload)
        self._reconcile()

    def pods_of(self, workload: Workload) -> list[Pod]:
        """Return the pods of a workload that have not ended and are not being deleted."""
        return [
            pod
            for pod in self.pods
            if pod.workload is workload and pod.deleted is None and pod.phase in ("Pending", "Running")
        ]

    def make_pod(self, workload: Workload, name: str | None = None) -> Pod | None:
        """Make a pod, injected by whichever injector answers; None if none does."""
        labels, annotations = dict(workload.labels), dict(workload.annotations)
        bundle = None
        if workload.component:
            annotations |= workload.mesh.annotations
        else:
            bundle = workload.manual_bundle
            if bundle is None:
                injector = self._pick(
                    [pod for pod in self._of(workload.mesh) if pod.serves("proxy-injector", self.now)]
                )
                if injector is None or injector.trust_roots is None:
                    return None
                bundle = str(injector.trust_roots.content)
                # The injection writes over what the template says.
                annotations["linkerd.io/trust-root-sha256"] = sha256_hex(bundle)
            labels["linkerd.io/control-plane-ns"] = workload.mesh.namespace
        number = next(self._numbers)
        if workload.kind == "Deployment":
            labels["pod-template-hash"] = workload.hash
        elif workload.kind == "Rollout":
            labels["rollouts-pod-template-hash"] = workload.hash
        between = f"{workload.name}-{workload.hash}" if workload.kind in ("Deployment", "Rollout") else workload.name
        starts = self.now + timedelta(seconds=self.random.randint(1, 40))
        pod = Pod(
            namespace=workload.namespace,
            name=name or (workload.name if workload.kind == "Pod" else f"{between}-{number:05d}"),
            uid=f"00000000-0000-4000-8000-{number:012d}",
            workload=workload,
            mesh=workload.mesh,
            component=workload.component,
            created=self.now,
            bundle=bundle,
            labels=labels,
            annotations=annotations,
            is_sidecar=workload.is_sidecar,
            revision=workload.revision,
            starts=starts,
            ready=starts + timedelta(seconds=self.random.randint(1, 20) if workload.is_sidecar else 0),
        )
        if workload.component:
            pod.trust_roots = Mount(workload.mesh.bundle)
        if workload.component == "identity":
            pod.credentials = Mount(workload.mesh.secret)
        self.pods.append(pod)
        return pod

    # Time.

    def settle(self) -> None:
        """Let kubelets, controllers and processes do what is due at once: ten minutes."""
        self.advance(timedelta(minutes=10))

    def advance(self, span: timedelta) -> None:
        """Let time go on, and everything happen that is due.

        Raises:
            UnsafeError: A handshake fails meanwhile.
        """
        end = self.now + span
        while True:
            self._act()
            if self.now >= end:
                return
            self.now = min([end, *(due for due in self._dues() if due > self.now)])

    def check(self) -> None:
        """Make sure that all live proxies accept each other.

        Raises:
            UnsafeError: Two do not.
        """
        pods = [(f"pod {pod}", pod.proxy) for pod in self.pods if pod.proxy is not None]
        outside = [(f"external workload {entry.namespace}/{entry.name}", entry) for entry in self.externals]
        check_handshakes([*pods, *outside], self.now)

    def needed(self) -> frozenset[str]:
        """Return the generations that something shows or signs with now, or is about to."""
        found = {peer.leaf.generation for peer in self._peers() if peer.leaf is not None}
        found |= {pod.issuer.generation for pod in self.pods if pod.issuer is not None and pod.proxy is not None}
        for mesh in self.meshes:
            found |= {mesh.signer, mesh.secret.generation}
        return frozenset(found)

    def is_ready(self, pod: Pod) -> bool:
        """Whether a pod is ready, as its readiness probes see it."""
        is_up = (
            pod.phase == "Running" and pod.ready <= self.now and pod.proxy is not None and pod.proxy.leaf is not None
        )
        return is_up and (pod.component != "identity" or pod.issuer is not None)

    def is_rolled_out(self, mesh: Mesh) -> bool:
        """Whether all of a control plane is of its newest templates, and ready."""
        return all(
            len(found) == workload.replicas
            and all(pod.revision == workload.revision and self.is_ready(pod) for pod in found)
            for workload in self.workloads
            if workload.mesh is mesh and workload.component
            for found in [self.pods_of(workload)]
        )

    def _peers(self) -> Iterator[Proxy | External]:
        yield from (pod.proxy for pod in self.pods if pod.proxy is not None)
        yield from self.externals

    def _of(self, mesh: Mesh) -> list[Pod]:
        return [pod for pod in self.pods if pod.mesh is mesh]

    def _pick(self, pods: list[Pod]) -> Pod | None:
        return self.random.choice(pods) if pods else None

    def _will_sync(self, mount: Mount) -> None:
        if not mount.is_stuck:
            mount.due = self.now + timedelta(seconds=self.random.randint(0, _SYNC_SECONDS))

    def _dues(self) -> Iterator[datetime]:
        yield self.now + timedelta(hours=1)
        for mesh in self.meshes:
            if mesh.issues is not None:
                yield mesh.issues
            elif mesh.fixed_end is None:
                yield mesh.secret.made + _RENEWED_AFTER
        for pod in self.pods:
            if pod.gone is not None and pod.is_reachable:
                yield pod.gone
            if pod.phase == "Pending":
                yield from (pod.starts, pod.ready)
            for mount in (pod.trust_roots, pod.credentials):
                if mount is not None and mount.due is not None:
                    yield mount.due
            if pod.proxy is not None:
                leaf = pod.proxy.leaf
                yield leaf.is_due if leaf is not None and leaf.is_due > self.now else self.now + _RETRY
                if leaf is not None:
                    yield leaf.ends
        if any(len(self.pods_of(workload)) < workload.replicas for workload in self.workloads):
            yield self.now + _RETRY

    def _act(self) -> None:
        self._issue()
        self._sync()
        for pod in self.pods:
            if pod.phase == "Pending" and pod.is_placed and pod.proxy is None and pod.starts <= self.now:
                self._start_proxy(pod)
            if pod.phase == "Pending" and pod.proxy is not None and pod.ready <= self.now:
                self._start_program(pod)
            if pod.component == "identity" and pod.program_started is not None and pod.issuer is None:
                self.restart_program(pod)
        # A pod on a node that is cut off stays, and its processes too, until someone deletes it by force.
        self.pods = [pod for pod in self.pods if pod.gone is None or pod.gone > self.now or not pod.is_reachable]
        self._certify()
        self._heal()
        self._reconcile()
        self.check()

    def _issue(self) -> None:
        for mesh in self.meshes:
            is_renewed = mesh.fixed_end is None and mesh.secret.made + _RENEWED_AFTER <= self.now
            if is_renewed or (mesh.issues is not None and mesh.issues <= self.now):
                mesh.issues = None
                mesh.secret = make_issuer(mesh.signer, self.now, mesh.fixed_end)
                for pod in self._of(mesh):
                    if pod.credentials is not None:
                        self._will_sync(pod.credentials)

    def _sync(self) -> None:
        for pod in self.pods:
            if pod.trust_roots is not None and pod.trust_roots.due is not None and pod.trust_roots.due <= self.now:
                pod.trust_roots.content, pod.trust_roots.due = pod.mesh.bundle, None
            if pod.credentials is not None and pod.credentials.due is not None and pod.credentials.due <= self.now:
                pod.credentials.content, pod.credentials.due = pod.mesh.secret, None
                if pod.proxy is not None and pod.issuer is not None and not pod.is_deaf:
                    pod.reload()

    def _start_proxy(self, pod: Pod) -> None:
        bundle = pod.bundle
        if bundle is None:
            # A kubelet resolves the reference from its cache, which may be a minute old; for a new pod it asks again.
            mesh, is_cached = pod.mesh, pod.restarts > 0 and self.random.random() < 0.5
            is_late = max(mesh.written.values()) + timedelta(minutes=1) > self.now
            bundle = mesh.previous if is_cached and is_late and mesh.previous else mesh.bundle
        if pod.proxy is None and pod.program_started is None:
            # A pod's volumes are written before its first container starts.
            for mount, content in ((pod.trust_roots, pod.mesh.bundle), (pod.credentials, pod.mesh.secret)):
                if mount is not None:
                    mount.content, mount.due = content, None
        pod.proxy = Proxy(bundle=bundle, started=self.now)

    def _start_program(self, pod: Pod) -> None:
        pod.phase, pod.program_started = "Running", self.now
        if pod.component == "identity":
            pod.start_identity()

    def _certify(self) -> None:
        """Have proxies ask for a certificate that lack one, or whose own is due.

        The identity service's proxy asks the service beside it (linkerd2 ``charts/partials/templates/_proxy.tpl``), the
        others any replica, whose certificate they have to accept first.
        """
        for pod in sorted(self.pods, key=lambda entry: entry.component != "identity"):
            proxy = pod.proxy
            if proxy is None or (proxy.leaf is not None and proxy.leaf.is_due > self.now):
                continue
            asked = pod if pod.component == "identity" else self._pick(self._signing(pod.mesh))
            if not pod.is_reachable:
                # It shows what it has once its node is back, unless that has ended by then.
                proxy.leaf = proxy.leaf if proxy.leaf is not None and proxy.leaf.ends > self.now else None
                continue
            if asked is None or asked.issuer is None or asked.issuer.ends <= self.now:
                continue
            shown = asked.proxy.leaf if asked is not pod and asked.proxy is not None else None
            if shown is not None and shown.generation not in proxy.trusts:
                msg = (
                    f"pod {pod}, which trusts {_names(proxy)}, refuses {asked}, whose leaf is under {shown.generation}"
                )
                raise UnsafeError(msg)
            leaf = make_leaf(asked.issuer, pod.identity, self.now)
            if leaf.generation not in proxy.trusts:
                msg = f"pod {pod}, which trusts {_names(proxy)}, refuses its own new leaf under {leaf.generation}"
                raise UnsafeError(msg)
            proxy.leaf = leaf
        for entry in self.externals:
            if entry.leaf is None or entry.leaf.is_due <= self.now:
                entry.leaf = make_leaf(make_issuer(entry.signer, self.now), entry.name, self.now)
                if entry.leaf.generation not in entry.trusts:
                    msg = f"external workload {entry.name} refuses its own new leaf under {entry.signer}"
                    raise UnsafeError(msg)

    def _signing(self, mesh: Mesh) -> list[Pod]:
        return [pod for pod in self._of(mesh) if pod.serves("identity", self.now) and self.is_ready(pod)]

    def _heal(self) -> None:
        for pod in self.pods:
            if pod.component != "identity" or pod.proxy is None or pod.issuer is pod.mesh.secret:
                pod.stale_since = None
                continue
            pod.stale_since = pod.stale_since or self.now
            if pod.stale_since + _HEALED_AFTER <= self.now and pod.deleted is None and pod.workload is not None:
                self.restart(pod.workload)

    def _reconcile(self) -> None:
        for workload in self.workloads:
            if workload.kind == "StatefulSet":
                self._reconcile_set(workload)
            elif workload.kind not in ("Job", "CronJob", "Pod"):
                self._reconcile_replicas(workload)

    def _reconcile_replicas(self, workload: Workload) -> None:
        """Surge to new pods, and delete old ones once those are ready; keep the number of pods."""
        found = self.pods_of(workload)
        new = found if workload.is_on_delete else [pod for pod in found if pod.revision == workload.revision]
        for _ in range(workload.replicas - len(new)):
            made = self.make_pod(workload)
            if made is None:
                return
            new.append(made)
        for pod in new[workload.replicas :]:
            self.delete(pod)
        if all(self.is_ready(pod) for pod in new):
            for pod in found:
                if pod not in new:
                    self.delete(pod)

    def _reconcile_set(self, workload: Workload) -> None:
        """Make each pod again under its name once the old one is gone, one after the other."""
        held = {pod.name: pod for pod in self.pods if pod.workload is workload}
        for number in range(workload.replicas):
            pod = held.get(f"{workload.name}-{number}")
            if pod is None:
                self.make_pod(workload, f"{workload.name}-{number}")
            elif pod.revision != workload.revision and not workload.is_on_delete:
                self.delete(pod)
                return
            elif not self.is_ready(pod) and not workload.is_on_delete:
                return
        for number in range(workload.replicas, len(held)):
            if f"{workload.name}-{number}" in held:
                self.delete(held[f"{workload.name}-{number}"])


def _names(proxy: Proxy) -> str:
    return ", ".join(sorted(proxy.trusts))
