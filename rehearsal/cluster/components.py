"""Parts of a rehearsal cluster: each process with its arguments, and the files that they read."""

import base64
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshtrust.names import IDENTITY, PROXY_INJECTOR
from rehearsal.cluster.pki import Authority, key_pem, write_secret
from rehearsal.cluster.waiting_times import FILE

ISSUER = "https://kubernetes.default.svc.cluster.local"
# The audience of the tokens that Linkerd's proxies show the identity service (linkerd2 controller/cmd/identity).
LINKERD_AUDIENCE = "identity.l5d.io"
# Their own limits protect API servers with other clients, and cost seconds at every start.
_UNTHROTTLED = ("--kube-api-qps=1000", "--kube-api-burst=1000")
# Controllers of things that a cluster without machines does not have.
_WITHOUT = (
    "node-lifecycle-controller",
    "node-ipam-controller",
    "node-route-controller",
    "cloud-node-lifecycle-controller",
)


# Linkerd's high availability needs three, and a rolling update one more.
NODES = ("node-1", "node-2", "node-3", "node-4")
KUBELET_PORT = 10250


@dataclass(frozen=True)
class Process:
    """A program of the binary, or another one by its path, and its arguments. The name is that of its log."""

    name: str
    args: list[str]
    path: str = ""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(entry.getsockname()[1]) for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()


def write_files(directory: Path, context: str, api_port: int) -> None:
    """Write the keys, certificates and settings of a cluster into its directory, none of them readable to others.

    Args:
        directory: The cluster's directory.
        context: Name of the context of its kubeconfig.
        api_port: Port of the API server.
    """
    authority = Authority.make()
    server_names = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    server_pem, server_key = authority.issue("kube-apiserver", server_names=server_names)
    tokens = ec.generate_private_key(ec.SECP256R1())
    files = {
        "ca.crt": authority.pem,
        "ca.key": key_pem(authority.key),
        "apiserver.crt": server_pem,
        "apiserver.key": server_key,
        "service-accounts.key": key_pem(tokens),
        "service-accounts.pub": tokens.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "egress.json": json.dumps(_egress(directory)),
    }
    server = f"https://127.0.0.1:{api_port}"
    for name, common_name, names in (("kubelet-client", "kube-apiserver", ()), ("kubelet", "kubelet", NODES)):
        files[f"{name}.crt"], files[f"{name}.key"] = authority.issue(common_name, server_names=names)
    for name, common_name, organization in (
        ("kubeconfig", "rehearsal", "system:masters"),
        ("kube-controller-manager.kubeconfig", "system:kube-controller-manager", ""),
        ("kube-scheduler.kubeconfig", "system:kube-scheduler", ""),
    ):
        certificate, key = authority.issue(common_name, organization)
        files[name] = json.dumps(_kubeconfig(context, server, authority.pem, certificate, key), indent=2)
    for name, text in files.items():
        write_secret(directory / name, text)


def processes(
    directory: Path, api_port: int, etcd_port: int, peer_port: int, controller: Path | None = None
) -> list[Process]:
    """Return the processes of a cluster, whose files `write_files` has written.

    Args:
        directory: The cluster's directory.
        api_port: Port of the API server.
        etcd_port: Port of etcd for its clients.
        peer_port: Port of etcd for its peers.
        controller: Linkerd's own identity controller; the stand-in runs without one.
    """

    def path(name: str) -> str:
        return str(directory / name)

    etcd, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    started_by_a_pod = [f"--kubeconfig={path('kubeconfig')}"]
    answers = [*started_by_a_pod, f"--services={path('services')}"]
    pods_wait: list[str] = []
    starts: list[Process] = []
    if (directory / FILE).exists():
        pods_wait = ["--pods-wait"]
        starts = [Process("container-starts", ["container-starts", f"--times={path(FILE)}", *started_by_a_pod])]
    real_identity = [f"--controller={controller}", f"--volumes={path('volumes')}"] if controller else []
    return [
        Process(
            "etcd",
            [
                "etcd",
                f"--data-dir={path('etcd')}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--log-level=warn",
                # Its data is thrown away with the cluster.
                "--unsafe-no-fsync",
            ],
        ),
        Process(
            "kube-apiserver",
            [
                "kube-apiserver",
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={api_port}",
                "--advertise-address=192.0.2.1",
                # An endpoint on loopback is not allowed, and nothing in the cluster would use it.
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--egress-selector-config-file={path('egress.json')}",
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                # Without it nodes would be born with a taint that only the node lifecycle controller removes.
                "--disable-admission-plugins=TaintNodesByCondition",
                f"--kubelet-certificate-authority={path('ca.crt')}",
                f"--kubelet-client-certificate={path('kubelet-client.crt')}",
                f"--kubelet-client-key={path('kubelet-client.key')}",
                f"--client-ca-file={path('ca.crt')}",
                f"--tls-cert-file={path('apiserver.crt')}",
                f"--tls-private-key-file={path('apiserver.key')}",
                f"--service-account-issuer={ISSUER}",
                f"--api-audiences={ISSUER},{LINKERD_AUDIENCE}",
                f"--service-account-key-file={path('service-accounts.pub')}",
                f"--service-account-signing-key-file={path('service-accounts.key')}",
            ],
        ),
        Process(
            "kube-controller-manager",
            [
                "kube-controller-manager",
                f"--kubeconfig={path('kube-controller-manager.kubeconfig')}",
                "--leader-elect=false",
                "--secure-port=0",
                "--use-service-account-credentials=true",
                *_UNTHROTTLED,
                f"--controllers=*,{','.join(f'-{name}' for name in _WITHOUT)}",
                f"--root-ca-file={path('ca.crt')}",
                f"--service-account-private-key-file={path('service-accounts.key')}",
                f"--cluster-signing-cert-file={path('ca.crt')}",
                f"--cluster-signing-key-file={path('ca.key')}",
            ],
        ),
        Process(
            "kube-scheduler",
            [
                "kube-scheduler",
                f"--kubeconfig={path('kube-scheduler.kubeconfig')}",
                "--leader-elect=false",
                "--secure-port=0",
                *_UNTHROTTLED,
            ],
        ),
        Process("kwok", ["kwok", "--manage-all-nodes=true", *pods_wait, *started_by_a_pod]),
        *starts,
        Process(
            "kubelet",
            [
                "kubelet",
                f"--services={path('services')}",
                f"--tls-cert-file={path('kubelet.crt')}",
                f"--tls-private-key-file={path('kubelet.key')}",
                f"--client-ca-file={path('ca.crt')}",
            ],
        ),
        Process("cert-manager", ["cert-manager", *started_by_a_pod]),
        Process("cainjector", ["cainjector", *started_by_a_pod]),
        Process("cert-manager-webhook", ["cert-manager-webhook", *answers]),
        Process("trust-manager", ["trust-manager", *answers]),
        Process(IDENTITY, [IDENTITY, *answers, *real_identity]),
        Process("linkerd-proxies", ["linkerd-proxies", *answers]),
        Process(PROXY_INJECTOR, [PROXY_INJECTOR, *answers]),
    ]


def node(name: str, *, small: bool) -> dict[str, Any]:
    """Return one of the NODES, which kwok plays.

    Args:
        name: Its name.
        small: Whether it is as large as a machine, so that the scheduler spreads pods over all nodes as it would there;
            else it is large enough for anything that a rehearsal runs.
    """
    size = {"cpu": "4", "memory": "16Gi"} if small else {"cpu": "64", "memory": "256Gi"}
    resources = {**size, "pods": "5000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": f"zone-of-{name}",
            },
        },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": f"192.0.2.{NODES.index(name) + 11}"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        },
    }


def _egress(directory: Path) -> dict[str, Any]:
    transport = {"uds": {"udsName": str(directory / "egress.sock")}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [
            {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}},
            {"name": "controlplane", "connection": {"proxyProtocol": "Direct"}},
            {"name": "etcd", "connection": {"proxyProtocol": "Direct"}},
        ],
    }


def _kubeconfig(context: str, server: str, ca: str, certificate: str, key: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
        "users": [
            {
                "name": context,
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            }
        ],
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
