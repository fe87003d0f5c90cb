"""Comparison of objects as the real Kubernetes provider does it: the program's inputs against the live object.

The live object is cut down to the fields of the former inputs, so that what the cluster or other controllers add
is not a difference, and what they changed is one (pulumi/pulumi-kubernetes: provider/pkg/provider/provider.go, Diff).
"""

import base64
import binascii
from typing import Any

from rehearsal.providers import values
from rehearsal.providers.base import Change, Diff
from rehearsal.providers.values import UNKNOWN, Path, Properties

Body = dict[str, Any]

# Of the kinds that are served (provider/pkg/provider/replace.go, forceNew).
_FORCE_NEW: dict[tuple[str, str], tuple[Path, ...]] = {
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (("parameters",), ("provisioner",)),
    ("", "Secret"): (("type",),),
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
    if values.has_unknowns(result):
        return result
    if result.get("apiVersion") == "v1" and not is_secret(result):
        result = _without_empty(result)
    if is_secret(result):
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
    outputs: Properties,
    new_inputs: Properties,
    *,
    namespaced: bool,
    patch: bool,
    mutable_data: bool,
    ignored: tuple[str, ...] = (),
) -> Diff:
    """Return how an object would change, and which changes need a replacement.

    Args:
        outputs: The last outputs.
        new_inputs: The new inputs.
        namespaced: Whether objects of the kind have a namespace.
        patch: Whether it is a Patch resource, which may change everything but its identity.
        mutable_data: Whether the data of Secrets and ConfigMaps may be changed in place (`enableSecretMutable`,
            `enableConfigMapMutable`).
        ignored: Paths whose changes the program ignores.
    """
    old = values.plain(normalized(outputs.get("__inputs") or {}))
    new = values.plain(normalized(new_inputs))
    live = live_object(outputs)
    base = pruned(live, old)
    for obj in (base, new):
        metadata = obj.setdefault("metadata", {})
        if namespaced:
            metadata["namespace"] = metadata.get("namespace") or "default"
        else:
            metadata.pop("namespace", None)
    if new["metadata"].get("name"):
        base["metadata"]["name"] = (live.get("metadata") or {}).get("name")
    base.setdefault("apiVersion", new.get("apiVersion"))
    base.setdefault("kind", new.get("kind"))
    forced = _IDENTITY if patch else (*_IDENTITY, *_immutable(new, mutable_data=mutable_data))
    changes = detailed(values.diff(base, new), forced)
    for text in ignored:
        path = values.parse_path(text)
        changes = {other: change for other, change in changes.items() if other[: len(path)] != path}
    replaces = frozenset(values.format_path(path) for path, change in changes.items() if change.replaces)
    named = bool(new["metadata"].get("name")) and new["metadata"].get("name") is not UNKNOWN
    return Diff(
        detailed=changes, replaces=replaces, delete_before_replace=bool(replaces) and named and _same_place(live, new)
    )


def detailed(changes: dict[Path, str], forced: tuple[Path, ...]) -> dict[Path, Change]:
    """Return changes as the real provider reports them (convertPatchToDiff): a removal is a difference of inputs.

    Args:
        changes: Each changed path with its kind.
        forced: Paths that need a replacement, with all below them.
    """
    return {
        path: Change(kind, replaces=any(path[: len(prefix)] == prefix for prefix in forced), of_inputs=kind == "delete")
        for path, kind in changes.items()
    }


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


def _without_empty(obj: Properties) -> Properties:
    """Return an object as Kubernetes' own types write it, which leave out what is empty (clients.Normalize)."""
    kept = {key: value for key, value in obj.items() if values.plain(value) not in ({}, [], None)}
    if isinstance(obj.get("metadata"), dict):
        metadata = obj["metadata"].items()
        kept["metadata"] = {key: value for key, value in metadata if values.plain(value) not in ({}, [], None)}
    return kept


def _reencoded(value: Any) -> Any:
    """Base64 as the API server writes it back, without white space."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64encode(base64.b64decode(value)).decode()
    except (ValueError, binascii.Error):
        return value
