"""The kubernetes provider: any kind of object, custom resources, Patch resources and Helm releases.

It follows pulumi-kubernetes 4.34.2 (provider/pkg/provider, provider/pkg/await): an object is created by a plain
create request, so that one which exists already is an error, unless the provider is configured with
`upsertExistingObjects`; updates are server-side applies under the resource's own field manager
(`pulumi-kubernetes-<random>`); previews are server-side dry runs, but of kinds that the server does not know yet, in
namespaces that do not exist yet and of inputs not known yet, which are planned from their inputs. Not served:
OpenAPI validation ahead of the request, YAML rendering, client-side apply, `pulumi.com/replaceUnready`, lists.
"""

import os
import re
import secrets
import threading
from typing import Any

from rehearsal.providers import kubernetes_diff, readiness, values
from rehearsal.providers.base import Diff, Operation, Provider
from rehearsal.providers.cluster_client import ApiError, ClusterClient, Kind, UnreachableError, parse_kubeconfig
from rehearsal.providers.errors import CheckError, InitError, ProviderError
from rehearsal.providers.helm import HelmRelease
from rehearsal.providers.values import UNKNOWN, Properties

Body = dict[str, Any]

RELEASE = "kubernetes:helm.sh/v3:Release"
_CREATE_MANAGER = "pulumi-kubernetes"
_POLL_SECONDS = 0.2
_ENVIRONMENT = {
    "deleteUnreachable": "PULUMI_K8S_DELETE_UNREACHABLE",
    "enableConfigMapMutable": "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE",
    "enablePatchForce": "PULUMI_K8S_ENABLE_PATCH_FORCE",
    "enableSecretMutable": "PULUMI_K8S_ENABLE_SECRET_MUTABLE",
    "upsertExistingObjects": "PULUMI_K8S_UPSERT_EXISTING_OBJECTS",
}
_SETTINGS = {
    "kubeconfig",
    "context",
    "cluster",
    "namespace",
    "version",
    "helmReleaseSettings",
    "suppressDeprecationWarnings",
    "suppressHelmHookWarnings",
    "enableServerSideApply",
    "clusterIdentifier",
    *_ENVIRONMENT,
}


class KubernetesProvider(Provider):
    """One cluster, which need not answer in a preview."""

    def __init__(self) -> None:
        self._config: Body = {}
        self._client: ClusterClient | None = None
        self._unreachable = ""
        self._namespace = "default"
        self._warned = False
        self._lock = threading.Lock()
        self._helm: HelmRelease | None = None

    # Configuration

    def configure(self, config: Properties) -> None:
        """Take the provider's configuration and try to reach the cluster.

        Like the real provider this never fails for a cluster that does not answer: a preview goes on with a
        warning, everything else is refused when it comes to it.
        """
        unserved = sorted(set(config) - _SETTINGS)
        if unserved:
            raise ProviderError(f"this stand-in does not serve the kubernetes provider's {', '.join(unserved)}")
        if values.plain(config.get("enableServerSideApply")) in (False, "false"):
            raise ProviderError("this stand-in does not serve client-side apply: leave enableServerSideApply out")
        if values.has_unknowns(config):
            self._unreachable = "the provider's configuration is not known yet"
            return
        self._config = values.plain(config)
        self._namespace = self._config.get("namespace") or "default"
        kubeconfig, context = self._config.get("kubeconfig") or "", self._config.get("context") or ""
        try:
            self._client = ClusterClient(kubeconfig, context)
            self._client.request("GET", "/version")
        except ProviderError as error:
            self._client = None
            self._unreachable = str(error)
            return
        self._namespace = self._config.get("namespace") or self._client.namespace
        self._helm = HelmRelease(kubeconfig, context, self._namespace)

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Another active cluster replaces everything on it; other settings take effect in place."""
        changes = values.diff({**old, "version": ""}, {**new, "version": ""})
        replace = set()
        if new.get("clusterIdentifier") is None or old.get("clusterIdentifier") != new.get("clusterIdentifier"):
            moved = _active_cluster(old) != _active_cluster(new)
            replace = {path for path in changes if moved and path[0] in ("kubeconfig", "context", "cluster")}
            replace |= {path for path in changes if path[0] == "clusterIdentifier" and old.get("clusterIdentifier")}
        return Diff.of_paths(changes, frozenset(replace))

    # The provider protocol

    def serves(self, type_: str) -> bool:
        """Whether the type is an object of some API, or a Helm release."""
        if type_ == RELEASE:
            return True
        match = re.fullmatch(r"kubernetes:[\w.-]+/v\d\w*:\w+", type_)
        return match is not None and not type_.startswith(("kubernetes:helm.sh/", "kubernetes:yaml/"))

    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:
        """Name what has no name, and bring inputs into the API server's form."""
        if operation.type == RELEASE:
            return self._release().check(operation, old, new, offline=self._client is None)
        inputs = kubernetes_diff.normalized({"apiVersion": _api_version(operation.type), **new})
        kind = str(inputs.setdefault("kind", operation.type.rsplit(":", 1)[1]))
        if kind.endswith("List") and operation.type.endswith(":" + kind):
            raise CheckError([("", "list resources cannot be created directly; use the underlying resource type")])
        if not isinstance(inputs.get("metadata", {}), dict):
            return inputs
        metadata = dict(inputs.get("metadata") or {})
        if metadata.get("generateName"):
            reason = "the `.metadata.generateName` field is not supported in Server-Side Apply mode"
            raise CheckError([("metadata.generateName", reason)])
        if not metadata.get("name"):
            if _is_patch(operation):
                raise CheckError([("metadata.name", "patch resources require the `.metadata.name` field to be set")])
            former = (values.plain(old or {}).get("metadata") or {}) if old else {}
            autonamed = (former.get("annotations") or {}).get("pulumi.com/autonamed") == "true"
            metadata["name"] = former["name"] if autonamed else f"{operation.name}-{secrets.token_hex(4)}"
            metadata["annotations"] = {**(metadata.get("annotations") or {}), "pulumi.com/autonamed": "true"}
        if not metadata.get("namespace") and self._namespace != "default" and self._is_namespaced(inputs):
            metadata["namespace"] = self._namespace
        return kubernetes_diff.with_secrets({**inputs, "metadata": metadata}, new)

    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:
        """Compare the live object of the last deployment, in the shape of its inputs, with new inputs."""
        if operation.type == RELEASE:
            return HelmRelease.diff(outputs, new)
        mutable = {"Secret": "enableSecretMutable", "ConfigMap": "enableConfigMapMutable"}.get(str(new.get("kind")))
        return kubernetes_diff.compare(
            old,
            outputs,
            new,
            default_namespace=self._namespace,
            patch=_is_patch(operation),
            mutable_data=mutable is not None and self._enabled(mutable),
        )

    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Create the object and wait until it is ready, or dry-run that."""
        if operation.type == RELEASE:
            if operation.preview:
                return "", HelmRelease.planned(inputs)
            self._require_cluster(operation)
            return self._release().create(operation, inputs)
        if operation.preview:
            return "", self._preview(operation, inputs, None)
        self._require_cluster(operation)
        body = values.plain(inputs)
        manager = self._field_manager(inputs, {})
        obj = self._attempt_create(operation, body, manager)
        return _identity(obj), self._settled(operation, inputs, obj, manager)

    def update(
        self, operation: Operation, resource_id: str, outputs: Properties, old: Properties, new: Properties
    ) -> Properties:
        """Apply the inputs and wait until the object is ready, or dry-run that."""
        del old
        if operation.type == RELEASE:
            if operation.preview:
                return HelmRelease.planned(new)
            self._require_cluster(operation)
            return self._release().update(operation, resource_id, outputs, new)
        if operation.preview:
            return self._preview(operation, new, outputs)
        self._require_cluster(operation)
        body = values.plain(new)
        manager = self._field_manager(new, outputs)
        path = self._path(body)
        try:
            live = self._call("GET", path)
            obj = self._apply(operation, path, body, live, manager)
        except ApiError as error:
            raise ProviderError(f"update of resource {operation.urn} failed: {error}") from error
        return self._settled(operation, new, obj, manager)

    def delete(
        self,
        operation: Operation,
        resource_id: str,  # noqa: ARG002 the object says where it is
        inputs: Properties,
        outputs: Properties,
    ) -> None:
        """Delete the object and wait until it is gone; a Patch gives up its fields."""
        if self._client is None and self._enabled("deleteUnreachable"):
            operation.warn(
                f"configured Kubernetes cluster is unreachable, deleted from state only: {self._unreachable}"
            )
            return
        self._require_cluster(operation, hint=True)
        if operation.type == RELEASE:
            self._release().delete(operation, outputs)
            return
        live = kubernetes_diff.live_object(outputs)
        try:
            path = self._path(live)
            if _is_patch(operation):
                self._relinquish(path, live, str(outputs.get("__fieldManager")))
                return
            policy = readiness.annotation(values.plain(inputs), "deletionPropagationPolicy").capitalize()
            self._call("DELETE", path, body={"propagationPolicy": policy or "Foreground"})
        except _UnknownKindError:
            return
        except ApiError as error:
            if error.code == 404:
                return
            raise
        uid = (live.get("metadata") or {}).get("uid")
        self._wait(
            operation,
            path,
            lambda obj: readiness.Verdict(obj is None or obj["metadata"]["uid"] != uid, "Waiting for deletion"),
            readiness.timeout_seconds(operation.timeout, values.plain(inputs)),
        )

    def read(
        self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties
    ) -> tuple[Properties, Properties] | None:
        """The object as it is now, its inputs cut down to what the program gave."""
        if self._client is None and self._enabled("deleteUnreachable"):
            operation.warn(f"configured Kubernetes cluster is unreachable, deleted from state: {self._unreachable}")
            return None
        self._require_cluster(operation, hint=True)
        if operation.type == RELEASE:
            return self._release().read(operation, inputs, outputs)
        namespace, _, name = resource_id.rpartition("/")
        identity = values.plain(inputs) if inputs.get("kind") else _identity_of(operation, namespace, name)
        identity.setdefault("metadata", {}).setdefault("name", name)
        try:
            live = self._call("GET", self._path(identity))
        except _UnknownKindError:
            return None
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        shape = values.plain(kubernetes_diff.normalized(inputs)) if inputs.get("kind") else _spec(live)
        live_inputs = kubernetes_diff.with_secrets(kubernetes_diff.pruned(live, shape), inputs)
        manager = str(outputs.get("__fieldManager") or self._field_manager(inputs, outputs))
        return live_inputs, kubernetes_diff.checkpoint(live_inputs, live, manager)

    # Requests

    def _preview(self, operation: Operation, inputs: Properties, outputs: Properties | None) -> Properties:
        if self._client is None:
            with self._lock:
                if not self._warned:
                    self._warned = True
                    operation.warn(f"configured Kubernetes cluster is unreachable: {self._unreachable}")
            return inputs
        if values.has_unknowns(inputs) or _is_patch(operation):
            return inputs
        body = values.plain(inputs)
        manager = self._field_manager(inputs, outputs or {})
        try:
            path = self._path(body)
            if outputs is None:
                obj = self._post(path, body, manager, dry_run=True)
            else:
                live = self._call("GET", path)
                obj = self._apply(operation, path, body, live, manager)
        except _UnknownKindError:
            return inputs
        except ApiError as error:
            missing_namespace = error.code == 404 and error.details.get("kind") == "namespaces"
            if error.code in (403, 409) or missing_namespace:
                return inputs
            verb = "created" if outputs is None else "updated"
            raise ProviderError(
                f"resource {operation.urn} was not successfully {verb} by the Kubernetes API server: {error}"
            ) from error
        return kubernetes_diff.checkpoint(inputs, kubernetes_diff.without_status(obj), manager)

    def _attempt_create(self, operation: Operation, body: Body, manager: str) -> Body:
        """Create, trying again for half a minute where a namespace or a definition may still be on its way."""
        for attempt in range(1, 6):
            try:
                path = self._path(body)
                if _is_patch(operation) or self._enabled("upsertExistingObjects"):
                    return self._apply(operation, path, body, None, manager)
                return self._post(path, body, manager)
            except (_UnknownKindError, ApiError) as error:
                if (isinstance(error, ApiError) and error.code != 404) or attempt == 5:
                    raise self._explained(operation, error) from error
                operation.status(f"Retry #{attempt}; creation failed: {error}")
                operation.cancelled.wait(2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _post(self, path: str, body: Body, manager: str, *, dry_run: bool = False) -> Body:
        del manager  # the first update hands the fields over from the common manager of all creations
        params = {"fieldManager": _CREATE_MANAGER, "fieldValidation": "Warn"}
        if dry_run:
            params["dryRun"] = "All"
        return self._call("POST", path.rsplit("/", 1)[0], body=body, params=params)

    def _apply(self, operation: Operation, path: str, body: Body, live: Body | None, manager: str) -> Body:
        body = _with_ignored(operation, body, live)
        if live is not None and not _is_patch(operation) and not operation.preview:
            live = self._adopt_fields(path, live, manager)
        force = (
            self._enabled("enablePatchForce")
            or readiness.annotation(body, "patchForce") == "true"
            or (operation.preview and (live is None or _created_by_us(live)))
            or (live is not None and not live["metadata"].get("managedFields"))
        )
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        if operation.preview:
            params["dryRun"] = "All"
        try:
            return self._call("PATCH", path, body=body, params=params, content_type="application/apply-patch+yaml")
        except ApiError as error:
            if error.code == 409:
                raise ProviderError(
                    f'The resource managed by field manager "{manager}" had an apply conflict: {error}'
                ) from error
            raise

    def _adopt_fields(self, path: str, live: Body, manager: str) -> Body:
        """Hand the fields of the plain create over to the resource's own field manager.

        Only then does leaving a field out of an apply remove it from the object.
        """
        entries = live["metadata"].get("managedFields") or []
        if any(entry.get("manager") == manager and entry.get("operation") == "Apply" for entry in entries):
            return live
        if not _created_by_us(live):
            return live
        adopted = [
            {**entry, "manager": manager, "operation": "Apply"} if _is_creation(entry) else entry for entry in entries
        ]
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": adopted},
        ]
        return self._call("PATCH", path, body=patch, content_type="application/json-patch+json")

    def _relinquish(self, path: str, live: Body, manager: str) -> None:
        metadata = {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
        body = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
        try:
            self._call(
                "PATCH", path, body=body, params={"fieldManager": manager}, content_type="application/apply-patch+yaml"
            )
        except ApiError as error:
            if error.code == 422 and "Required value" in str(error):
                raise ProviderError(
                    "this Patch resource is currently managing a required field, so it can't be deleted directly. "
                    "Either set the `retainOnDelete` resource option, or transfer ownership of the field before "
                    f"deleting: {error}"
                ) from error
            raise

    def _settled(self, operation: Operation, inputs: Properties, obj: Body, manager: str) -> Properties:
        """The outputs once the object is ready."""
        plain = values.plain(inputs)
        check = readiness.readiness(plain)
        verdict = check(obj)
        live: Body | None = obj
        if not verdict.ready:
            path = self._path(obj)
            try:
                live = self._wait(
                    operation,
                    path,
                    lambda found: check(found) if found else readiness.Verdict(ready=False, message="It is gone"),
                    readiness.timeout_seconds(operation.timeout, plain),
                )
            except _NotReadyError as error:
                raise InitError(
                    f'resource "{operation.urn}" was successfully created, but the Kubernetes API server reported '
                    f"that it failed to fully initialize or become live: {error}",
                    resource_id=_identity(obj),
                    outputs=kubernetes_diff.checkpoint(inputs, error.live or obj, manager),
                    reasons=[str(error)],
                ) from error
        return kubernetes_diff.checkpoint(inputs, live or obj, manager)

    def _wait(self, operation: Operation, path: str, check: Any, seconds: float) -> Body | None:
        """Look at the object until `check` is content; returns it as it is then."""
        waited, told = 0.0, ""
        while True:
            try:
                live: Body | None = self._call("GET", path)
            except ApiError as error:
                if error.code != 404:
                    raise
                live = None
            verdict: readiness.Verdict = check(live)
            if verdict.ready:
                return live
            if verdict.message != told:
                told = verdict.message
                operation.status(told)
            if verdict.failed or waited >= seconds or operation.cancelled.is_set():
                why = "was cancelled" if operation.cancelled.is_set() else "timed out waiting for the condition"
                raise _NotReadyError(verdict.message if verdict.failed else f"{why} ({told})", live)
            operation.cancelled.wait(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Body:
        assert self._client is not None  # noqa: S101 - callers have made sure of the cluster
        try:
            return self._client.request(method, path, body=body, params=params, content_type=content_type)
        except UnreachableError as error:
            raise ProviderError(f"Kubernetes API server is unreachable: {error}") from error

    def _path(self, obj: Body) -> str:
        kind = self._kind(obj)
        if kind is None:
            raise _UnknownKindError(
                f'no matches for kind "{obj.get("kind")}" in version "{obj.get("apiVersion")}"', obj
            )
        metadata = obj.get("metadata") or {}
        return kind.path(metadata.get("namespace") or self._namespace, str(metadata.get("name") or ""))

    def _kind(self, obj: Body) -> Kind | None:
        if self._client is None:
            return None
        return self._client.kind(str(obj.get("apiVersion")), str(obj.get("kind")))

    def _is_namespaced(self, inputs: Properties) -> bool:
        kind = self._kind(inputs)
        # A kind that is not known yet is most likely a custom one, of which most are namespaced.
        return kind.namespaced if kind else self._client is not None

    # Facts

    def _enabled(self, setting: str) -> bool:
        given = self._config.get(setting, os.environ.get(_ENVIRONMENT[setting], ""))
        return str(given).lower() == "true"

    def _require_cluster(self, operation: Operation, *, hint: bool = False) -> None:
        del operation
        if self._client is None:
            advice = (
                ". If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the "
                'operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"'
            )
            raise ProviderError(
                f"configured Kubernetes cluster is unreachable: {self._unreachable}{advice if hint else ''}"
            )

    def _release(self) -> HelmRelease:
        return self._helm or HelmRelease("", "", self._namespace)

    @staticmethod
    def _field_manager(inputs: Properties, outputs: Properties) -> str:
        given = readiness.annotation(values.plain(values.known(inputs)), "patchFieldManager")
        return given or str(outputs.get("__fieldManager") or f"{_CREATE_MANAGER}-{secrets.token_hex(4)}")

    @staticmethod
    def _explained(operation: Operation, error: ProviderError) -> ProviderError:
        if isinstance(error, _UnknownKindError):
            kind = f"{error.obj.get('apiVersion')}/{error.obj.get('kind')}"
            return ProviderError(
                f'creation of resource "{operation.urn}" with kind {kind} failed because the Kubernetes API server '
                "reported that the apiVersion for this resource does not exist. Verify that any required CRDs have "
                f"been created: {error}"
            )
        message = f'resource "{operation.urn}" was not successfully created by the Kubernetes API server: {error}'
        if isinstance(error, ApiError) and error.reason == "AlreadyExists":
            message += (
                "\n\nThe resource already exists in the cluster. Delete it, change it with a Patch resource, or set "
                "upsertExistingObjects on the provider to let server-side apply update existing objects on create."
            )
        return ProviderError(message)


class _UnknownKindError(ProviderError):
    """The API server knows no such kind."""

    def __init__(self, message: str, obj: Body) -> None:
        super().__init__(message)
        self.obj = obj


class _NotReadyError(ProviderError):
    """Waiting ended without success; `live` is the object as last seen."""

    def __init__(self, message: str, live: Body | None) -> None:
        super().__init__(message)
        self.live = live


def _api_version(type_: str) -> str:
    group, _, version = type_.split(":")[1].rpartition("/")
    return version if group == "core" else f"{group}/{version}"


def _is_patch(operation: Operation) -> bool:
    return operation.type.endswith("Patch")


def _identity(obj: Body) -> str:
    metadata = obj["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


def _identity_of(operation: Operation, namespace: str, name: str) -> Body:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    kind = operation.type.rsplit(":", 1)[1].removesuffix("Patch")
    return {"apiVersion": _api_version(operation.type), "kind": kind, "metadata": metadata}


def _spec(live: Body) -> Body:
    """The parts of a live object that a program could have given."""
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")
                if key in live["metadata"]}  # fmt: skip
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": metadata}


def _is_creation(entry: Body) -> bool:
    return (
        entry.get("manager") == _CREATE_MANAGER and entry.get("operation") == "Update" and not entry.get("subresource")
    )


def _created_by_us(live: Body) -> bool:
    return any(_is_creation(entry) for entry in live["metadata"].get("managedFields") or [])


def _with_ignored(operation: Operation, body: Body, live: Body | None) -> Body:
    """Leave what `ignoreChanges` names as it is in the cluster."""
    if live is None:
        return body
    for pattern in operation.ignore_changes:
        body = values.reset_path(values.parse_path(pattern), live, body)
    return body


def _active_cluster(config: Properties) -> object:
    if values.has_unknowns(config):
        return UNKNOWN
    plain = values.plain(config)
    kubeconfig = plain.get("kubeconfig")
    if not kubeconfig:
        return (plain.get("context"), plain.get("cluster"))
    try:
        data = parse_kubeconfig(kubeconfig)
    except ProviderError:
        return kubeconfig
    wanted = plain.get("context") or data.get("current-context")
    contexts = {item.get("name"): item.get("context") or {} for item in data.get("contexts") or []}
    clusters = {item.get("name"): item.get("cluster") for item in data.get("clusters") or []}
    return clusters.get(plain.get("cluster") or contexts.get(wanted, {}).get("cluster"))


def provider() -> KubernetesProvider:
    """Return the kubernetes provider."""
    return KubernetesProvider()
