"""Pods of the model, and the processes in them: what each holds in memory, whatever the API server says of it.

Rules: linkerd2-proxy ``linkerd/meshtls`` (anchors and leaf of a proxy), linkerd2 ``controller/cmd/identity/main.go``
and ``pkg/identity/service.go`` (the identity service), ``controller/proxy-injector/webhook.go`` (an injector).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from meshtrust.pki.pem import sha256_hex
from tests.gate_model.pki import Issuer, Leaf, read_generations

if TYPE_CHECKING:
    from tests.gate_model.mesh import Mesh

CONTROL_PLANE = ("identity", "destination", "proxy-injector")


@dataclass(eq=False)
class Proxy:
    """A process of the proxy: its anchors, fixed for its life, and its certificate."""

    bundle: str
    started: datetime
    leaf: Leaf | None = None

    @property
    def trusts(self) -> frozenset[str]:
        """The generations that it trusts."""
        return read_generations(self.bundle)


@dataclass(eq=False)
class Mount:
    """A ConfigMap or a Secret as a pod sees it: as it was when the kubelet last wrote it.

    Attributes:
        content: What the pod reads.
        due: When the kubelet writes it the next time; nothing while there is nothing new.
        is_stuck: Whether the kubelet never does, until the pod is made again.
    """

    content: object
    due: datetime | None = None
    is_stuck: bool = False


@dataclass(eq=False)
class Workload:
    """An owner of pods.

    Attributes:
        kind: Its kind.
        namespace: Its namespace.
        name: Its name.
        mesh: Whose proxies its pods get.
        replicas: How many pods it wants.
        component: The part of the control plane that it is, or empty.
        labels: Labels of its template, above those that the injection adds.
        annotations: Annotations of its template.
        manual_bundle: The bundle that ``linkerd inject --manual`` wrote into its template; None if pods are
            injected as they are made.
        is_on_delete: Whether its pods are made new only once the old ones are gone.
        is_sidecar: Whether its proxies are native sidecars.
        revision: Counts the changes of its template.
    """

    kind: str
    namespace: str
    name: str
    mesh: "Mesh"
    replicas: int = 1
    component: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    manual_bundle: str | None = None
    is_on_delete: bool = False
    is_sidecar: bool = True
    revision: int = 1

    @property
    def hash(self) -> str:
        """Hash of its template, by which its ReplicaSet is named."""
        return f"{sha256_hex(self.name)[:6]}{self.revision}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(eq=False)
class Pod:
    """A pod.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID.
        workload: What made it; None for a bare pod.
        mesh: Whose proxy it has.
        component: The part of the control plane that it is, or empty.
        created: When it was made.
        bundle: The anchors in its environment; empty if that refers to the ConfigMap.
        labels: Its labels.
        annotations: Its annotations, which anyone may change.
        is_sidecar: Whether its proxy is a native sidecar.
        revision: Revision of its workload's template.
        starts: When its proxy starts.
        ready: When its other containers do.
        phase: Its phase, as the API has it.
        gone: When a pod that is being deleted is gone.
        deleted: When it was deleted.
        is_reachable: Whether its node answers.
        is_placed: Whether it has a node.
        proxy: Its proxy's process; None before it starts and once it has ended.
        restarts: How often its proxy's container restarted.
        program_started: When its other container started; None before it does.
        program_restarts: How often that one restarted.
        trust_roots: The ConfigMap that its control-plane container mounts.
        credentials: The Secret that the identity service mounts.
        anchors: What the identity service read at its start.
        issuer: What the identity service signs with.
        is_deaf: Whether the identity service has stopped to watch its files (linkerd2 issue 15109).
        stale_since: Since when the identity service signs with another issuer than the Secret's.
    """

    namespace: str
    name: str
    uid: str
    workload: Workload | None
    mesh: "Mesh"
    component: str
    created: datetime
    bundle: str | None
    labels: dict[str, str]
    annotations: dict[str, str]
    is_sidecar: bool
    revision: int
    starts: datetime
    ready: datetime
    phase: str = "Pending"
    deleted: datetime | None = None
    gone: datetime | None = None
    is_reachable: bool = True
    is_placed: bool = True
    proxy: Proxy | None = None
    restarts: int = 0
    program_started: datetime | None = None
    program_restarts: int = 0
    trust_roots: Mount | None = None
    credentials: Mount | None = None
    anchors: frozenset[str] = frozenset()
    issuer: Issuer | None = None
    is_deaf: bool = False
    stale_since: datetime | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def is_live(self) -> bool:
        """Whether its proxy can speak with others."""
        return self.proxy is not None and self.proxy.leaf is not None

    @property
    def account(self) -> str:
        """Its service account."""
        return f"linkerd-{self.component}" if self.component else "default"

    @property
    def identity(self) -> str:
        """Name of its proxy (linkerd2 ``pkg/inject/inject.go``)."""
        return f"{self.account}.{self.namespace}.serviceaccount.identity.{self.mesh.namespace}.cluster.local"

    def serves(self, component: str, now: datetime) -> bool:
        """Whether it answers as a part of the control plane: for a moment longer than it is deleted."""
        is_up = self.phase == "Running" and self.proxy is not None and self.is_reachable
        is_listed = self.deleted is None or now < self.deleted + timedelta(seconds=10)
        return self.component == component and is_up and is_listed

    def start_identity(self) -> bool:
        """Start the identity service, and return whether it runs: its issuer has to chain to its anchors."""
        assert self.trust_roots is not None
        assert self.credentials is not None
        self.anchors = read_generations(str(self.trust_roots.content))
        self.issuer, self.is_deaf, self.stale_since = None, False, None
        self.reload()
        return self.issuer is not None

    def reload(self) -> None:
        """Take over the mounted issuer if it chains to the anchors in memory, and keep the last one if not."""
        assert self.credentials is not None
        mounted = self.credentials.content
        if isinstance(mounted, Issuer) and mounted.generation in self.anchors:
            self.issuer = mounted
