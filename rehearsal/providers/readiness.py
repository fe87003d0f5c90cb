"""Waiting until an object is ready, by the rules of the real Kubernetes provider.

`pulumi.com/skipAwait: "true"` waits for nothing, `pulumi.com/waitFor` for the conditions that it names; any other
object counts as ready once it exists (pulumi-kubernetes provider/pkg/metadata/overrides.go). A condition counts only
where its observedGeneration, if it has one, has reached the object's generation.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.providers.errors import ProviderError

Body = dict[str, Any]
DEFAULT_SECONDS = 600.0


@dataclass(frozen=True)
class Verdict:
    """Readiness of an object, with the reason if it is not ready."""

    ready: bool
    message: str = ""


Check = Callable[[Body], Verdict]


def annotation(obj: Body, name: str) -> str:
    """Return one of the `pulumi.com/` annotations, empty if absent."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(f"pulumi.com/{name}") or "")


def timeout_seconds(given: float | None, obj: Body) -> float:
    """Return how long to wait: the custom timeout, else annotation `pulumi.com/timeoutSeconds`, else ten minutes."""
    if given:
        return given
    text = annotation(obj, "timeoutSeconds")
    return float(text) if text.isdigit() else DEFAULT_SECONDS


def readiness(inputs: Body) -> Check:
    """Return what to wait for after an object with these inputs was created or updated.

    Raises:
        ProviderError: The waitFor annotation cannot be understood.
    """
    if annotation(inputs, "skipAwait") == "true":
        return lambda _obj: Verdict(ready=True)
    expression = annotation(inputs, "waitFor")
    if not expression:
        return lambda _obj: Verdict(ready=True)
    try:
        parsed = json.loads(expression)
    except ValueError:
        parsed = [expression]
    expressions = parsed if isinstance(parsed, list) else [expression]
    if not expressions:
        raise ProviderError("at least one condition must be specified")
    checks = [_parse(str(item)) for item in expressions]

    def all_of(obj: Body) -> Verdict:
        return next((verdict for check in checks if not (verdict := check(obj)).ready), Verdict(ready=True))

    return all_of


def _parse(expression: str) -> Check:
    if expression.startswith("condition="):
        wanted, _, status = expression.removeprefix("condition=").partition("=")
        return lambda obj: _condition(obj, wanted, status or "True")
    if expression.startswith("jsonpath="):
        msg = f"This stand-in does not wait for {expression}. Install the provider's own plugin for it."
        raise ProviderError(msg)
    raise ProviderError(f'expected a "jsonpath=" or "condition=" prefix, got "{expression}"')


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
