"""Managers of the fields of an object, as server-side apply records them in `metadata.managedFields`."""

import copy
from typing import Any

from rehearsal.providers.values import Path, parse_path

Body = dict[str, Any]

CREATOR = "pulumi-kubernetes"
# The beginnings of the names whose fields the provider takes over (pulumi-kubernetes provider/pkg/await/await.go,
# fixCSAFieldManagers; fluxcd/pkg ssa/patch.go, matchFieldManager).
_TAKEN_OVER = (
    ("kubectl", "Apply"),
    ("kubectl", "Update"),
    ("before-first-apply", "Update"),
    (CREATOR, "Update"),
    ("pulumi-resource-kubernetes", "Update"),
)


def taken_over(live: Body, manager: str) -> list[Body] | None:
    """Return the managed fields once a manager has taken over those of a plain create and of kubectl; None if none are.

    Only then does leaving a field out of an apply remove it from the object.

    Args:
        live: The object.
        manager: Name of the resource's own field manager.
    """
    entries = live["metadata"].get("managedFields") or []
    own = next((entry for entry in entries if _is(entry, manager, "Apply")), None)
    taken = [entry for entry in entries if entry is not own and _is_taken_over(entry)]
    if not taken:
        return None
    first = own or {**taken[0], "manager": manager, "operation": "Apply"}
    fields: Body = {}
    for entry in [first, *taken]:
        fields = _union(fields, entry.get("fieldsV1") or {})
    others = [entry for entry in entries if entry is not own and entry not in taken]
    return [*others, {**first, "fieldsV1": fields}]


def is_created_here(live: Body) -> bool:
    """Return whether the provider created an object that it has not applied since."""
    entries = live["metadata"].get("managedFields") or []
    return any(entry.get("operation") == "Update" and entry.get("manager") == CREATOR for entry in entries)


def without_ignored(body: Body, live: Body, manager: str, ignored: tuple[str, ...]) -> Body:
    """Return what to apply where a program ignores changes of some fields (await.go, handleSSAIgnoreFields).

    A field that others alone manage is left to them; any other is applied as it is in the cluster.

    Args:
        body: The object as the program has it.
        live: The object in the cluster.
        manager: Name of the resource's own field manager.
        ignored: Paths of the fields.
    """
    result = copy.deepcopy(body)
    for text in ignored:
        path = parse_path(text)
        managers = {
            entry.get("manager") == manager
            for entry in live["metadata"].get("managedFields") or []
            if _covers(entry.get("fieldsV1") or {}, path)
        }
        parent = _parent(result, path)
        if managers == {False}:
            if isinstance(parent, dict):
                parent.pop(path[-1], None)
            continue
        source = _parent(live, path)
        if isinstance(source, dict) and path[-1] in source:
            _parent(result, path, make=True)[path[-1]] = source[path[-1]]
    return result


def _is(entry: Body, manager: str, operation: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == operation


def _is_taken_over(entry: Body) -> bool:
    return not entry.get("subresource") and any(
        entry.get("operation") == operation and str(entry.get("manager")).startswith(name)
        for name, operation in _TAKEN_OVER
    )


def _union(first: Body, second: Body) -> Body:
    return {key: _union(first.get(key) or {}, second.get(key) or {}) for key in {**first, **second}}


def _covers(fields: Body, path: Path) -> bool:
    for part in path:
        found = fields.get(f"f:{part}")
        if found is None:
            return False
        fields = found
    return True


def _parent(obj: Any, path: Path, *, make: bool = False) -> Any:
    for part in path[:-1]:
        if not isinstance(obj, dict):
            return None
        obj = obj.setdefault(part, {}) if make else obj.get(part)
    return obj
