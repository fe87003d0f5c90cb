"""The way to a cluster: a context, the service account of the pod that runs this, or a kubeconfig that a stack exports.

Messages name a cluster by it, and the Kubernetes provider of Pulumi is configured by it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshtrust.cluster.connection.kubeconfig import (
    Context,
    KubeconfigError,
    holds_credentials,
    keep_current_context,
    parse_context,
    read_context,
    with_variables,
)

IN_CLUSTER = "in-cluster"
"""Name of the context that stands for the service account of the pod that runs this."""

# Kubernetes, "Accessing the Kubernetes API from a Pod"; client-go ``rest/config.go``, InClusterConfig.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


@dataclass(frozen=True, kw_only=True)
class KubeconfigOutput:
    """An output that is a kubeconfig, of the stack that made a cluster.

    Attributes:
        stack: The stack, by its name or as organization/project/stack.
        output: Name of the output.
    """

    stack: str
    output: str

    def error(self, wrong: str) -> KubeconfigError:
        """Return the error for an output that cannot be used: what is wrong with it, which repeats none of it."""
        return KubeconfigError(
            f'meshtrust:cluster.output is "{self.output}", and that output of stack "{self.stack}" {wrong}. Export '
            "there what `kubectl config view --raw --flatten --minify` shows, as text or as an object, or name another "
            "output: pulumi config set --path cluster.output <name>"
        )


def kubeconfig_output(stack: str, output: str) -> KubeconfigOutput | None:
    """Return the output that the configuration names; None if it names no stack.

    Args:
        stack: Value of ``cluster.fromStack``, or empty.
        output: Value of ``cluster.output``; empty for the name that such outputs have by custom.
    """
    return KubeconfigOutput(stack=stack, output=output or "kubeconfig") if stack else None


@dataclass(frozen=True, kw_only=True)
class ClusterAccess:
    """The way to a cluster.

    Attributes:
        context: Name of a context of the kubeconfig files, or `IN_CLUSTER`; empty if the kubeconfig is an output.
        kubeconfig: Path of the kubeconfig; empty for the ambient one.
        source: The output that is the kubeconfig; None if it is not an output.
        content: The kubeconfig that was read from there, as JSON, or that the stack's ESC environment has: a secret.
        variables: Environment variables for the kubeconfig's command for credentials, beside those of this process.
        named_by: The key or option that names the context.
    """

    context: str = ""
    kubeconfig: str = ""
    source: KubeconfigOutput | None = None
    content: str = field(default="", repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    named_by: str = "meshtrust:context"

    @property
    def name(self) -> str:
        """Name of the cluster in a report: its context, or the stack and the output of its kubeconfig."""
        return f"{self.source.stack}:{self.source.output}" if self.source else self.context

    @property
    def title(self) -> str:
        """Description of it in a message."""
        if self.source:
            return f'output {self.source.output} of stack "{self.source.stack}"'
        return f'context "{self.context}"'

    @property
    def key(self) -> str:
        """The key to correct where it leads to the wrong cluster."""
        return "meshtrust:cluster.fromStack" if self.source else self.named_by

    @property
    def kubectl(self) -> str:
        """The beginning of a command of kubectl about the cluster."""
        return self._command("kubectl", "--context")

    @property
    def helm(self) -> str:
        """The beginning of a command of Helm about the cluster."""
        return self._command("helm", "--kube-context")

    def _command(self, program: str, option: str) -> str:
        if self.source:
            return f"{program} --kubeconfig <file with output {self.source.output} of stack {self.source.stack}>"
        return program if self.context == IN_CLUSTER else f"{program} {option} {self.context}"

    def with_output(self, value: Any) -> "ClusterAccess":
        """Return the way with the kubeconfig that the stack exports, of which its current context alone is kept.

        Args:
            value: The output: a kubeconfig as text (YAML or JSON, or either in base64), or as a map.

        Raises:
            KubeconfigError: It is no kubeconfig, or lacks what its current context names. The message repeats none of
                it.
        """
        if self.source is None:
            return self
        try:
            return replace(self, content=keep_current_context(value))
        except KubeconfigError as error:
            raise self.source.error(str(error)) from None

    @property
    def holds_credentials(self) -> bool:
        """Whether the kubeconfig of the output holds a key, a token or a password itself."""
        return bool(self.content) and holds_credentials(self.read())

    def read(self) -> Context:
        """Return the context: from its file, from the output, or from the files of the service account.

        Raises:
            KubeconfigError: It cannot be read; or this is no pod.
        """
        if self.context == IN_CLUSTER:
            _check_pod()
            return parse_context(_service_account(), IN_CLUSTER, self.named_by)
        if self.source or self.content:
            found = parse_context(self.content, self.context, self.key)
        else:
            found = read_context(self.context, self.kubeconfig, self.named_by)
        return replace(found, user=with_variables(found.user, self.variables))

    def provider_inputs(self) -> dict[str, str]:
        """Return the kubeconfig and the context by which Pulumi's Kubernetes provider reaches the cluster.

        The kubeconfig is always given: the SDK would else write this machine's KUBECONFIG into the state. If `content`
        is not empty it is a secret.
        """
        if self.source:
            return {"kubeconfig": self.content}
        if self.context == IN_CLUSTER:
            return {"kubeconfig": _service_account()}
        return {"kubeconfig": self.kubeconfig, "context": self.context}


def _check_pod() -> None:
    """Make sure that this is a pod that has its service account's token.

    Raises:
        KubeconfigError: It is not.
    """
    token = SERVICE_ACCOUNT / "token"
    missing = [name for name in (_HOST, _PORT) if not os.environ.get(name)]
    if not token.is_file():
        missing.append(str(token))
    if missing:
        msg = (
            f'The context is "{IN_CLUSTER}", the service account of a pod, and {" and ".join(missing)} '
            f"{'is' if len(missing) == 1 else 'are'} missing here. Run this in a pod of the cluster (with "
            "automountServiceAccountToken), or name a context of a kubeconfig."
        )
        raise KubeconfigError(msg)


def _service_account() -> str:
    """Return a kubeconfig of the pod's service account, which has paths of files and no secret."""
    host = os.environ.get(_HOST) or "kubernetes.default.svc"
    address = f"[{host}]" if ":" in host else host
    server = f"https://{address}:{os.environ.get(_PORT) or 443}"
    cluster = {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}
    # The kubelet renews the file, and each login reads it again.
    user = {"tokenFile": str(SERVICE_ACCOUNT / "token")}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": IN_CLUSTER,
            "contexts": [{"name": IN_CLUSTER, "context": {"cluster": IN_CLUSTER, "user": IN_CLUSTER}}],
            "clusters": [{"name": IN_CLUSTER, "cluster": cluster}],
            "users": [{"name": IN_CLUSTER, "user": user}],
        }
    )
