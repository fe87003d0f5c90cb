"""Waiting until an object is ready or gone, by the rules of the real Kubernetes provider.

`pulumi.com/skipAwait: "true"` waits for nothing, `pulumi.com/waitFor` for what it names, Deployments, StatefulSets,
DaemonSets and Jobs for their own status; an object of any other kind counts as ready once it exists
(pulumi/pulumi-kubernetes: provider/pkg/metadata/overrides.go, provider/pkg/await). A condition or status counts only
where its observedGeneration, if it has one, has reached the object's generation.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonpath

from rehearsal.providers.errors import ProviderError

Body = dict[str, Any]
DEFAULT_SECONDS = 600.0


@dataclass(frozen=True)
class Verdict:
    """Whether an object is ready, and if not what is waited for. `failed` means that waiting is of no use."""

    ready: bool
    message: str = ""
    failed: bool = False


Check = Callable[[Body], Verdict]


def annotation(obj: Body, name: str) -> str:
    """One of the `pulumi.com/` annotations, empty if absent."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(f"pulumi.com/{name}") or "")


def timeout_seconds(given: float | None, obj: Body) -> float:
    """How long to wait: the custom timeout, else the annotation `pulumi.com/timeoutSeconds`, else ten minutes."""
    if given:
        return given
    text = annotation(obj, "timeoutSeconds")
    return float(text) if text.isdigit() else DEFAULT_SECONDS


def readiness(inputs: Body) -> Check:
    """What to wait for after an object with these inputs was created or updated.

    Raises:
        ProviderError: the waitFor annotation cannot be understood.
    """
    if annotation(inputs, "skipAwait") == "true":
        return lambda _obj: Verdict(ready=True)
    expression = annotation(inputs, "waitFor")
    if not expression:
        return _BUILT_IN.get((inputs.get("apiVersion"), inputs.get("kind")), lambda _obj: Verdict(ready=True))
    try:
        parsed = json.loads(expression)
    except ValueError:
        parsed = [expression]
    expressions = parsed if isinstance(parsed, list) else [expression]
    if not expressions:
        raise ProviderError("at least one condition must be specified in pulumi.com/waitFor")
    checks = [_parse(str(item)) for item in expressions]

    def all_of(obj: Body) -> Verdict:
        return next((verdict for check in checks if not (verdict := check(obj)).ready), Verdict(ready=True))

    return all_of


def _parse(expression: str) -> Check:
    if expression.startswith("condition="):
        wanted, _, status = expression.removeprefix("condition=").partition("=")
        return lambda obj: _condition(obj, wanted, status or "True")
    if expression.startswith("jsonpath="):
        return _json_path(expression.removeprefix("jsonpath="))
    raise ProviderError(f'expected a "jsonpath=" or "condition=" prefix, got "{expression}"')


def _json_path(expression: str) -> Check:
    match = re.fullmatch(r"\{\s*(.*?)\s*\}(?:=(.+))?", expression)
    if match is None:
        raise ProviderError(f"{expression} should be {{.path}} or {{.path}}=value")
    path, value = match.groups()
    try:
        compiled = jsonpath.compile(path if path.startswith("$") else f"${path}")
    except jsonpath.JSONPathError as error:
        raise ProviderError(f'parsing "{expression}": {error}') from error

    def check(obj: Body) -> Verdict:
        if _stale(obj, obj.get("status") or {}):
            return Verdict(ready=False, message=f"Waiting for {expression}")
        found = compiled.findall(obj)
        if not found:
            return Verdict(ready=False, message=f"{{{path}}} selected nothing")
        text = found[0] if isinstance(found[0], str) else json.dumps(found[0])
        return Verdict(value is None or text == value, f'Waiting for {expression} (found "{text}")')

    return check


def _condition(obj: Body, wanted: str, status: str) -> Verdict:
    for item in (obj.get("status") or {}).get("conditions") or []:
        if str(item.get("type", "")).lower() != wanted.lower():
            continue
        if _stale(obj, item if "observedGeneration" in item else obj.get("status") or {}):
            return Verdict(ready=False, message=f"Condition {wanted} is of an older generation")
        found = str(item.get("status", ""))
        why = f": {item['message']}" if item.get("message") else ""
        return Verdict(found.lower() == status.lower(), f"Resource has condition {wanted}={found} (want {status}){why}")
    return Verdict(ready=False, message=f"Waiting for condition {wanted}={status}")


def _stale(obj: Body, observer: Body) -> bool:
    observed = observer.get("observedGeneration")
    generation = (obj.get("metadata") or {}).get("generation")
    return observed is not None and generation is not None and observed < generation


def _rollout(obj: Body, *, wanted: int, updated: int, ready: int) -> Verdict:
    status = obj.get("status") or {}
    if status.get("observedGeneration", 0) < (obj.get("metadata") or {}).get("generation", 0):
        return Verdict(ready=False, message="Waiting for the controller to see the change")
    if updated >= wanted and ready >= wanted:
        return Verdict(ready=True)
    return Verdict(ready=False, message=f"Waiting for app to be ready: {ready}/{wanted} replicas available")


def _replicas(obj: Body) -> Verdict:
    status = obj.get("status") or {}
    verdict = _rollout(
        obj,
        wanted=(obj.get("spec") or {}).get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("availableReplicas", status.get("readyReplicas", 0)),
    )
    if verdict.ready and status.get("replicas", 0) > status.get("updatedReplicas", 0):
        return Verdict(ready=False, message="Waiting for old replicas to end")
    return verdict


def _daemons(obj: Body) -> Verdict:
    status = obj.get("status") or {}
    return _rollout(
        obj,
        wanted=status.get("desiredNumberScheduled", 0),
        updated=status.get("updatedNumberScheduled", 0),
        ready=status.get("numberAvailable", 0),
    )


def _job(obj: Body) -> Verdict:
    for item in (obj.get("status") or {}).get("conditions") or []:
        if item.get("status") != "True":
            continue
        if item.get("type") == "Complete":
            return Verdict(ready=True)
        if item.get("type") == "Failed":
            return Verdict(ready=False, message=f"Job failed: {item.get('message', '')}", failed=True)
    return Verdict(ready=False, message="Waiting for Job to succeed")


_BUILT_IN: dict[tuple[object, object], Check] = {
    ("apps/v1", "Deployment"): _replicas,
    ("apps/v1", "StatefulSet"): _replicas,
    ("apps/v1", "DaemonSet"): _daemons,
    ("batch/v1", "Job"): _job,
}
