"""How the real Kubernetes provider compares objects: what the program gave against what the cluster made of it.

The live object is cut down to the fields of the former inputs, so that what the cluster or other controllers add
is no difference, and what they changed is one (pulumi/pulumi-kubernetes: provider/pkg/provider/provider.go, Diff).
"""

import base64
import binascii
import copy
from typing import Any

from rehearsal.providers import values
from rehearsal.providers.base import Diff
from rehearsal.providers.values import UNKNOWN, Path, Properties

Body = dict[str, Any]

_SELECTOR: tuple[Path, ...] = (("spec", "selector"),)
_FORCE_NEW: dict[tuple[str, str], tuple[Path, ...]] = {
    ("apps", "DaemonSet"): _SELECTOR,
    ("apps", "Deployment"): _SELECTOR,
    ("apps", "StatefulSet"): (
        *_SELECTOR,
        ("spec", "podManagementPolicy"),
        ("spec", "revisionHistoryLimit"),
        ("spec", "serviceName"),
        ("spec", "volumeClaimTemplates"),
    ),
    ("batch", "Job"): (("spec", "completions"), ("spec", "parallelism"), ("spec", "selector"), ("spec", "template")),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (("parameters",), ("provisioner",)),
    ("", "PersistentVolumeClaim"): (
        ("spec", "accessModes"),
        ("spec", "selector"),
        ("spec", "storageClassName"),
        ("spec", "volumeName"),
    ),
    ("", "Pod"): (("spec",),),
    ("", "ResourceQuota"): (("spec", "scopes"),),
    ("", "Secret"): (("type",),),
    ("", "Service"): (("spec", "clusterIP"),),
}
_IDENTITY: tuple[Path, ...] = (("metadata", "name"), ("metadata", "namespace"))
_READ_ONLY = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
)
_BOOKKEEPING = ("__inputs", "__initialApiVersion", "__fieldManager")


def is_secret(obj: Body) -> bool:
    """Whether the object is a core Secret."""
    return obj.get("kind") == "Secret" and obj.get("apiVersion") == "v1"


def normalized(inputs: Properties) -> Properties:
    """Inputs as the API server would hold them: a Secret's `stringData` is in `data`, no read-only metadata."""
    result = dict(inputs)
    metadata = result.get("metadata")
    if isinstance(metadata, dict):
        result["metadata"] = {key: value for key, value in metadata.items() if key not in _READ_ONLY}
    if is_secret(result) and not values.has_unknowns(result):
        data: Body = dict(values.plain(result.get("data")) or {})
        data = {key: _reencoded(value) for key, value in data.items()}
        for key, value in (values.plain(result.pop("stringData", None)) or {}).items():
            data[key] = base64.b64encode(str(value).encode()).decode()
        if data or "data" in result:
            result["data"] = data
    return result


def with_secrets(outputs: Properties, inputs: Properties) -> Properties:
    """Mark as secret what echoes secret inputs, and all data of a Secret."""
    result = dict(outputs)
    if result.get("kind") == "Secret":
        for name in ("data", "stringData"):
            if name in result and not isinstance(result[name], values.Secret):
                result[name] = values.Secret(values.plain(result[name]))
        return result
    for key, given in inputs.items():
        if key not in result:
            continue
        if isinstance(given, dict) and isinstance(result[key], dict):
            result[key] = with_secrets(result[key], given)
        elif not isinstance(result[key], values.Secret) and values.has_secrets(given):
            result[key] = values.Secret(values.plain(result[key]))
    return result


def checkpoint(inputs: Properties, live: Body, field_manager: str) -> Properties:
    """The outputs of a resource: the live object, and the inputs it was made from."""
    return {
        **with_secrets(live, inputs),
        "__inputs": inputs,
        "__initialApiVersion": inputs.get("apiVersion"),
        "__fieldManager": field_manager,
    }


def live_object(outputs: Properties) -> Body:
    """The object in a resource's outputs."""
    return {key: values.plain(value) for key, value in outputs.items() if key not in _BOOKKEEPING}


def pruned(live: Any, shape: Any) -> Any:
    """The parts of a live value that a shape has too."""
    if isinstance(live, dict) and isinstance(shape, dict):
        return {key: pruned(value, shape[key]) for key, value in live.items() if key in shape}
    if isinstance(live, list) and isinstance(shape, list):
        return [pruned(item, wanted) for item, wanted in zip(live, shape, strict=False)]
    return live


def compare(
    old_inputs: Properties,
    outputs: Properties,
    new_inputs: Properties,
    *,
    default_namespace: str,
    patch: bool,
    mutable_data: bool,
) -> Diff:
    """How an object would change, and which changes need a replacement.

    `patch` is for Patch resources, which may change everything but their identity; `mutable_data` tells whether the
    data of Secrets and ConfigMaps may be changed in place (`enableSecretMutable`, `enableConfigMapMutable`).
    """
    old = values.plain(normalized(outputs.get("__inputs") or old_inputs))
    new = values.plain(normalized(new_inputs))
    live = live_object(outputs)
    base = pruned(live, old)
    for obj in (base, new):
        metadata = obj.setdefault("metadata", {})
        if metadata.get("namespace") in (None, "") and live.get("metadata", {}).get("namespace"):
            metadata["namespace"] = default_namespace
        elif not live.get("metadata", {}).get("namespace"):
            metadata.pop("namespace", None)
    base["metadata"]["name"] = (live.get("metadata") or {}).get("name")
    changes = values.diff(base, new)
    forced = _IDENTITY if patch else (*_IDENTITY, *_immutable(new, mutable_data=mutable_data))
    replace = frozenset(path for path in changes if any(path[: len(prefix)] == prefix for prefix in forced))
    named = bool(new["metadata"].get("name")) and new["metadata"].get("name") is not UNKNOWN
    return Diff.of_paths(changes, replace, delete_before_replace=bool(replace) and named and _same_place(live, new))


def _same_place(live: Body, new: Body) -> bool:
    """Whether the replacement must have the very name of the object it replaces."""
    old, wanted = live.get("metadata") or {}, new["metadata"]
    autonamed = (wanted.get("annotations") or {}).get("pulumi.com/autonamed") == "true"
    same = old.get("name") == wanted.get("name") and old.get("namespace") == wanted.get("namespace")
    return same and not autonamed


def _immutable(obj: Body, *, mutable_data: bool) -> tuple[Path, ...]:
    group = str(obj.get("apiVersion") or "").rpartition("/")[0]
    kind = str(obj.get("kind") or "")
    data = not mutable_data or obj.get("immutable") is True
    if is_secret(obj) and data:
        return (("type",), ("stringData",), ("data",))
    if group == "" and kind == "ConfigMap" and data:
        return (("binaryData",), ("data",))
    return _FORCE_NEW.get((group, kind), ())


def _reencoded(value: Any) -> Any:
    """Base64 as the API server writes it back, without white space."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64encode(base64.b64decode(value)).decode()
    except (ValueError, binascii.Error):
        return value


def without_status(obj: Body) -> Body:
    """A copy of a dry run's object without its status, which says nothing yet."""
    result = copy.copy(obj)
    result.pop("status", None)
    return result
