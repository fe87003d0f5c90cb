"""The kubernetes provider: any kind of object, custom resources, Patch resources and Helm releases.

It follows pulumi-kubernetes 4.34.2 (provider/pkg/provider, provider/pkg/await): an object is created by a plain
create request, so that one which exists already is an error, unless the provider is configured with
`upsertExistingObjects`; updates are server-side applies under the resource's own field manager
(`pulumi-kubernetes-<random>`); previews are server-side dry runs, but of kinds that the server does not know yet, in
namespaces that do not exist yet and of inputs not known yet, which are planned from their inputs. Not served:
OpenAPI validation ahead of the request, YAML rendering, client-side apply, and the kinds for which the real provider
waits by rules of their own, such as Deployments.
"""

import os
import re
import secrets
from typing import Any

from rehearsal.providers import field_managers, kubernetes_diff, readiness, values
from rehearsal.providers.base import Diff, Operation, Provider
from rehearsal.providers.cluster_client import ApiError, ClusterClient, Kind, UnreachableError, parse_kubeconfig
from rehearsal.providers.errors import InitError, ProviderError
from rehearsal.providers.helm import HelmRelease
from rehearsal.providers.values import UNKNOWN, Properties

Body = dict[str, Any]

RELEASE = "kubernetes:helm.sh/v3:Release"
# Those of the provider's own rules (provider/pkg/await/awaiters.go).
_AWAITED = re.compile(
    r"kubernetes:(apps|extensions|batch|networking\.k8s\.io|autoscaling)/.*"
    r"|kubernetes:core/v1:(PersistentVolume|PersistentVolumeClaim|Pod|ReplicationController|Service|ServiceAccount)"
)
_POLL_SECONDS = 0.2
_CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
}
# The API versions of the program's own objects that the package has types for.
_KNOWN = {"v1"}
_ALREADY_EXISTS = """

The resource already exists in the cluster. This can happen when:

  - Renaming a Pulumi resource: use an alias to preserve the identity,
    or use deleteBeforeReplace if the resource needs replacement.
  - Managing an existing resource: use a Patch resource (e.g. NamespacePatch)
    to manage specific fields without owning the resource lifecycle.
  - Adopting a resource into Pulumi: use `pulumi import`. Note that
    protected resources (e.g. kube-system) cannot be deleted on destroy.
  - Intentional upsert: set upsertExistingObjects on the provider to allow
    server-side apply to update existing objects on create."""
_ENVIRONMENT = {
    "deleteUnreachable": "PULUMI_K8S_DELETE_UNREACHABLE",
    "enableConfigMapMutable": "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE",
    "enablePatchForce": "PULUMI_K8S_ENABLE_PATCH_FORCE",
    "enableSecretMutable": "PULUMI_K8S_ENABLE_SECRET_MUTABLE",
    "upsertExistingObjects": "PULUMI_K8S_UPSERT_EXISTING_OBJECTS",
}
_CLUSTER = ("kubeconfig", "context", "cluster")
_SETTINGS = {
    *_CLUSTER,
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
        self._helm: HelmRelease | None = None

    # Configuration

    def configure(self, config: Properties) -> None:
        """Take the provider's configuration and try to reach the cluster.

        Like the real provider this never fails for a cluster that does not answer: a preview continues with a
        warning, everything else is refused when it comes to it.
        """
        unserved = sorted(set(config) - _SETTINGS)
        if unserved:
            raise ProviderError(f"this stand-in does not serve the kubernetes provider's {', '.join(unserved)}")
        if values.plain(config.get("enableServerSideApply")) in (False, "false"):
            raise ProviderError("this stand-in does not serve client-side apply: leave enableServerSideApply out")
        self._config = values.plain(config)
        self._namespace = self._config.get("namespace") or "default"
        kubeconfig, context = self._config.get("kubeconfig") or "", self._config.get("context") or ""
        try:
            self._client = ClusterClient(kubeconfig, context)
            self._client.request("GET", "/version")
        except ProviderError as error:
            self._client = None
            self._unreachable = f"unable to load schema information from the API server: {error}"
            return
        self._namespace = self._config.get("namespace") or self._client.namespace
        self._helm = HelmRelease(kubeconfig, context, self._namespace)

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Replace everything where the provider moves to another cluster; other settings take effect in place.

        What cannot be known yet counts as moved. A `clusterIdentifier` that stays the same means the same cluster
        (provider.go, DiffConfig).
        """
        names = {str(path[0]) for path in values.diff(old, new)}
        replaces = set()
        identified = old.get("clusterIdentifier"), new.get("clusterIdentifier")
        if all(identified) and identified[0] != identified[1]:
            replaces.add("clusterIdentifier")
        unknown = next((name for name in _CLUSTER if new.get(name) is UNKNOWN), None)
        if unknown:
            names = {unknown}
            replaces.add(unknown)
        elif names:
            before, after = _active_cluster(old), _active_cluster(new)
            if before and after and before != after:
                replaces |= names & set(_CLUSTER)
        if all(identified) and identified[0] == identified[1]:
            replaces.clear()
        return Diff(names=frozenset(names), replaces=frozenset(replaces))

    # The provider protocol

    def serves(self, type_: str) -> bool:
        """Return whether the type is an object of some API that is ready once it exists, or a Helm release."""
        if type_ == RELEASE:
            return True
        match = re.fullmatch(r"kubernetes:[\w.-]+/v\d\w*:\w+", type_)
        others = type_.startswith(("kubernetes:helm.sh/", "kubernetes:yaml/", "kubernetes:kustomize/"))
        return match is not None and not others and not _AWAITED.fullmatch(type_)

    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:
        """Name what has no name, and bring inputs into the API server's form."""
        if operation.type == RELEASE:
            return self._release().check(operation, old, new)
        inputs = kubernetes_diff.normalized(new)
        kind = str(inputs.get("kind"))
        if kind.endswith("List") and operation.type.endswith(":" + kind):
            raise ProviderError(
                "list resources exist for compatibility with YAML manifests and Helm charts, and cannot be created "
                "directly. Use the underlying resource type instead"
            )
        if inputs.get("metadata") is UNKNOWN:
            return inputs
        metadata = dict(inputs.get("metadata") or {})
        if not metadata.get("name"):
            if _is_patch(operation):
                raise ProviderError("patch resources require the `.metadata.name` field to be set")
            if metadata.get("generateName"):
                raise ProviderError("the `.metadata.generateName` field is not supported in Server-Side Apply mode")
            former = (values.plain(old or {}).get("metadata") or {}) if old else {}
            autonamed = (former.get("annotations") or {}).get("pulumi.com/autonamed") == "true"
            if autonamed or not old:
                metadata["name"] = former["name"] if autonamed else f"{operation.name}-{secrets.token_hex(4)}"
                metadata["annotations"] = {**(metadata.get("annotations") or {}), "pulumi.com/autonamed": "true"}
        if not metadata.get("namespace") and self._is_namespaced(inputs):
            metadata["namespace"] = self._namespace
        return kubernetes_diff.with_secrets({**inputs, "metadata": metadata}, new)

    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:  # noqa: ARG002
        """Compare the live object of the last deployment, in the shape of its inputs, with new inputs."""
        if operation.type == RELEASE:
            return HelmRelease.diff(outputs, new, operation.ignore_changes)
        mutable = {"Secret": "enableSecretMutable", "ConfigMap": "enableConfigMapMutable"}.get(str(new.get("kind")))
        return kubernetes_diff.compare(
            outputs,
            new,
            namespaced=self._is_namespaced(new),
            patch=_is_patch(operation),
            mutable_data=mutable is not None and self._enabled(mutable),
            ignored=operation.ignore_changes,
        )

    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Create the object and wait until it is ready, or dry-run that."""
        if operation.type == RELEASE:
            if operation.preview:
                return "", HelmRelease.planned(inputs)
            self._require_cluster("can't create Helm Release with unreachable cluster")
            return self._release().create(operation, inputs)
        if operation.preview:
            return "", self._planned(operation, inputs)
        self._require_cluster("configured Kubernetes cluster is unreachable")
        manager = self._field_manager(inputs, {})
        obj = self._attempt_create(operation, values.plain(inputs), manager)
        try:
            live = self._settled(operation, inputs, obj)
        except _NotReadyError as error:
            message = (
                f'resource "{operation.urn}" was successfully created, but the Kubernetes API server reported that it '
                f"failed to fully initialize or become live: {error}"
            )
            raise _init_error(message, error.live or obj, inputs, manager) from error
        return _identity(live), kubernetes_diff.checkpoint(inputs, live, manager)

    def update(
        self, operation: Operation, resource_id: str, outputs: Properties, old: Properties, new: Properties
    ) -> Properties:
        """Apply the inputs and wait until the object is ready, or dry-run that."""
        del old
        if operation.type == RELEASE:
            if operation.preview:
                return HelmRelease.planned(new)
            self._require_cluster("can't update Helm Release with unreachable cluster")
            return self._release().update(operation, resource_id, outputs, new)
        new = kubernetes_diff.with_secrets(kubernetes_diff.normalized(new), new)
        if operation.preview and (self._client is None or values.has_unknowns(new) or self._kind(new) is None):
            return new
        self._require_cluster("configured Kubernetes cluster is unreachable")
        manager = self._field_manager(new, outputs)
        path = self._path(values.plain(new))
        try:
            former = self._get(path)
            if not _is_patch(operation) and not operation.preview:
                former = self._take_over(path, former, manager)
            body = field_managers.without_ignored(values.plain(new), former, manager, operation.ignore_changes)
            new = kubernetes_diff.with_secrets(body, new)
            live = self._apply(operation, path, body, former, manager)
            if operation.preview:
                return kubernetes_diff.checkpoint(new, live, manager)
            live = self._settled(operation, new, live)
        except (ApiError, ConflictError, _NotReadyError) as error:
            if operation.preview and getattr(error, "code", 0) == 403:
                return new
            try:
                live = self._get(path)
            except ApiError as gone:
                msg = f'update of resource "{operation.urn}" failed: {error}\nunable to get cluster state: {gone}'
                raise ProviderError(msg) from error
            message = (
                f'the Kubernetes API server reported that "{_identity(live)}" failed to fully initialize or become '
                f"live: {error}"
            )
            raise _init_error(message, live, new, manager) from error
        former_manager = str(outputs.get("__fieldManager") or manager)
        if former_manager != manager:
            self._relinquish(path, live, former_manager)
        return kubernetes_diff.checkpoint(new, live, manager)

    def delete(
        self,
        operation: Operation,
        resource_id: str,  # noqa: ARG002 the object has its own address
        inputs: Properties,
        outputs: Properties,
    ) -> None:
        """Delete the object and wait until it is gone; a Patch gives up its fields."""
        if operation.type == RELEASE:
            if self._client is None:
                msg = f'can\'t delete Helm Release with unreachable cluster. Reason: "{self._unreachable}"'
                raise ProviderError(msg)
            self._release().delete(operation, outputs)
            return
        if self._is_lost(operation, "configured Kubernetes cluster is unreachable"):
            return
        live = kubernetes_diff.live_object(outputs)
        try:
            path = self._path(live)
            if _is_patch(operation):
                self._relinquish(path, live, str(outputs.get("__fieldManager")))
                return
            policy = readiness.annotation(values.plain(inputs), "deletionPropagationPolicy").capitalize()
            self._call("DELETE", path, body={"propagationPolicy": policy or "Foreground"})
        except UnknownKindError:
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
        """Return the object as it is now, its inputs cut down to what the program gave."""
        if self._is_lost(operation, "failed to read resource state due to unreachable cluster"):
            return None
        if operation.type == RELEASE:
            return self._release().read(operation, resource_id, inputs, outputs)
        namespace, _, name = resource_id.rpartition("/")
        imported = not inputs.get("kind")
        identity = _identity_of(operation, namespace, name) if imported else values.plain(inputs)
        identity.setdefault("metadata", {}).setdefault("name", name)
        try:
            live = self._get(self._path(identity))
        except UnknownKindError:
            return None
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        if imported:
            live_inputs = kubernetes_diff.with_secrets(_imported(live), {})
        else:
            shape = values.plain(kubernetes_diff.normalized(inputs))
            live_inputs = kubernetes_diff.with_secrets(kubernetes_diff.pruned(live, shape), inputs)
        manager = self._field_manager(inputs, outputs)
        return live_inputs, kubernetes_diff.checkpoint(live_inputs, live, manager)

    # Requests

    def _planned(self, operation: Operation, inputs: Properties) -> Properties:
        """Return what the API server would make of a new object, as far as that can be known."""
        if self._client is None or values.has_unknowns(inputs) or _is_patch(operation):
            return inputs
        body = values.plain(inputs)
        manager = self._field_manager(inputs, {})
        try:
            path = self._path(body)
            if self._enabled("upsertExistingObjects"):
                obj = self._apply(operation, path, body, None, manager)
            else:
                obj = self._post(path, body, dry_run=True)
        except UnknownKindError:
            return inputs
        except ApiError as error:
            missing_namespace = error.code == 404 and error.details.get("kind") == "namespaces"
            if error.code == 403 or missing_namespace or error.reason == "AlreadyExists":
                return inputs
            raise _not_created(operation, error) from error
        obj.pop("status", None)
        return kubernetes_diff.checkpoint(inputs, obj, manager)

    def _attempt_create(self, operation: Operation, body: Body, manager: str) -> Body:
        """Create, trying again for half a minute where a namespace or a definition may still be on its way."""
        for attempt in range(1, 6):
            try:
                path = self._path(body)
                if _is_patch(operation) or self._enabled("upsertExistingObjects"):
                    return self._apply(operation, path, body, None, manager)
                return self._post(path, body)
            except (UnknownKindError, ApiError, ConflictError) as error:
                if getattr(error, "code", 0) != 404 or attempt == 5 or operation.cancelled.is_set():
                    raise _not_created(operation, error) from error
                operation.status(f"Retry #{attempt}; creation failed: {error}")
                operation.cancelled.wait(2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _post(self, path: str, body: Body, *, dry_run: bool = False) -> Body:
        params = {"fieldManager": field_managers.CREATOR, "fieldValidation": "Warn"}
        if dry_run:
            params["dryRun"] = "All"
        return self._call("POST", path.rsplit("/", 1)[0], body=body, params=params)

    def _apply(self, operation: Operation, path: str, body: Body, live: Body | None, manager: str) -> Body:
        force = (
            self._enabled("enablePatchForce")
            or readiness.annotation(body, "patchForce") == "true"
            or (operation.preview and (live is None or field_managers.is_created_here(live)))
            or (live is not None and not live["metadata"].get("managedFields"))
        )
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        if operation.preview:
            params["dryRun"] = "All"
        try:
            return self._call("PATCH", path, body=body, params=params, content_type="application/apply-patch+yaml")
        except ApiError as error:
            if error.code == 409:
                raise ConflictError(manager, error) from error
            raise

    def _take_over(self, path: str, live: Body, manager: str) -> Body:
        entries = field_managers.taken_over(live, manager)
        if entries is None:
            return live
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
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
                field = next((each.get("field") for each in error.details.get("causes") or []), "")
                raise ProviderError(
                    "this Patch resource is currently managing a required field, so it can't be deleted directly. "
                    "Either set the `retainOnDelete` resource option, or transfer ownership of the field before "
                    f"deleting: {field}"
                ) from error
            raise

    def _settled(self, operation: Operation, inputs: Properties, obj: Body) -> Body:
        """Return the object once it is ready.

        Raises:
            _NotReadyError: It does not get ready in time.
        """
        plain = values.plain(inputs)
        check = readiness.readiness(plain)
        if check(obj).ready:
            return obj
        live = self._wait(
            operation,
            self._path(obj),
            lambda found: check(found) if found else readiness.Verdict(ready=False, message="It is gone"),
            readiness.timeout_seconds(operation.timeout, plain),
        )
        return live or obj

    def _wait(self, operation: Operation, path: str, check: Any, seconds: float) -> Body | None:
        """Look at the object until `check` is content; returns it as it is then."""
        waited, shown = 0.0, ""
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
            if verdict.message != shown:
                shown = verdict.message
                operation.status(shown)
            if operation.cancelled.is_set():
                raise _NotReadyError("context canceled", live)
            if waited >= seconds:
                raise _NotReadyError("timed out waiting for the condition", live)
            operation.cancelled.wait(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def _get(self, path: str) -> Body:
        return self._call("GET", path)

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
            raise UnknownKindError(f'no matches for kind "{obj.get("kind")}" in version "{obj.get("apiVersion")}"')
        metadata = obj.get("metadata") or {}
        return kind.path(metadata.get("namespace") or self._namespace, str(metadata.get("name") or ""))

    def _kind(self, obj: Body) -> Kind | None:
        if self._client is None:
            return None
        return self._client.kind(str(obj.get("apiVersion")), str(obj.get("kind")))

    def _is_namespaced(self, inputs: Properties) -> bool:
        if inputs.get("kind") in _CLUSTER_SCOPED and "." not in str(inputs.get("apiVersion")).replace(".k8s.io", ""):
            return False
        kind = self._kind(inputs)
        # A kind that is not known yet is most likely a custom one, of which most are namespaced.
        return kind.namespaced if kind else True

    # Facts

    def _enabled(self, setting: str) -> bool:
        given = self._config.get(setting, os.environ.get(_ENVIRONMENT[setting], ""))
        return str(given).lower() == "true"

    def _require_cluster(self, message: str) -> None:
        if self._client is None:
            raise ProviderError(f"{message}: {self._unreachable}")

    def _is_lost(self, operation: Operation, message: str) -> bool:
        """Return whether the cluster does not answer, and the user wants to have what was there forgotten.

        Raises:
            ProviderError: It does not answer, and the user has not declared that.
        """
        if self._client is not None:
            return False
        operation.warn(f"configured Kubernetes cluster is unreachable: {self._unreachable}")
        if self._enabled("deleteUnreachable"):
            return True
        raise ProviderError(
            f"{message}. If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the "
            'operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"'
        )

    def _release(self) -> HelmRelease:
        return self._helm or HelmRelease("", "", self._namespace)

    @staticmethod
    def _field_manager(inputs: Properties, outputs: Properties) -> str:
        given = readiness.annotation(values.plain(values.known(inputs)), "patchFieldManager")
        return given or str(outputs.get("__fieldManager") or f"{field_managers.CREATOR}-{secrets.token_hex(4)}")


class UnknownKindError(ProviderError):
    """The API server knows no such kind."""

    code = 404


class ConflictError(ProviderError):
    """Another field manager has a field with another value (await.go, handleSSAErr)."""

    def __init__(self, manager: str, error: ApiError) -> None:
        guide = "managing-resources-with-server-side-apply/#handle-field-conflicts-on-existing-resources"
        super().__init__(
            "server-side apply field conflict detected, see "
            f"https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/{guide} for troubleshooting help\n"
            f'The resource managed by field manager "{manager}" had an apply conflict: {error}'
        )


class _NotReadyError(ProviderError):
    """Waiting ended without success; `live` is the object as last seen."""

    def __init__(self, message: str, live: Body | None) -> None:
        super().__init__(message)
        self.live = live


def _init_error(message: str, live: Body, inputs: Properties, manager: str) -> InitError:
    return InitError(
        message,
        resource_id=_identity(live),
        outputs=kubernetes_diff.checkpoint(inputs, live, manager),
        reasons=[message],
    )


def _not_created(operation: Operation, error: ProviderError) -> ProviderError:
    if isinstance(error, UnknownKindError):
        group_version, kind = _api_version(operation.type), operation.type.rsplit(":", 1)[1]
        return ProviderError(
            f'creation of resource "{operation.urn}" with kind {group_version}/{kind} failed because the Kubernetes '
            "API server reported that the apiVersion for this resource does not exist. Verify that any required CRDs "
            f"have been created: {error}"
        )
    message = f'resource "{operation.urn}" was not successfully created by the Kubernetes API server: {error}'
    if isinstance(error, ApiError) and error.reason == "AlreadyExists":
        message += _ALREADY_EXISTS
    return ProviderError(message)


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


def _imported(live: Body) -> Body:
    """Return the inputs of an object that is imported: those of the package's own types, of others its name alone."""
    known = live if live["apiVersion"] in _KNOWN else {key: live[key] for key in ("apiVersion", "kind")}
    hidden = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
    kept = (
        live["metadata"]
        if live["apiVersion"] in _KNOWN
        else {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
    )
    metadata = {key: value for key, value in kept.items() if key not in hidden}
    return {**{key: value for key, value in known.items() if key != "status"}, "metadata": metadata}


def _active_cluster(config: Properties) -> Body | None:
    """Return the cluster of the active context of a configuration; None if it is not known.

    Raises:
        ProviderError: The kubeconfig cannot be read.
    """
    kubeconfig = config.get("kubeconfig")
    if not kubeconfig:
        return None
    data = parse_kubeconfig(kubeconfig)
    contexts = {item.get("name"): item.get("context") or {} for item in data.get("contexts") or []}
    clusters = {item.get("name"): item.get("cluster") for item in data.get("clusters") or []}
    context = contexts.get(config.get("context") or data.get("current-context")) or {}
    return clusters.get(config.get("cluster") or context.get("cluster"))


def provider() -> KubernetesProvider:
    """Return the kubernetes provider."""
    return KubernetesProvider()
