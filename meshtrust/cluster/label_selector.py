"""Label selectors of Kubernetes, as the API server matches them."""

from collections.abc import Mapping
from typing import Any


def match_labels(labels: Mapping[str, str]) -> str:
    """Return the selector of the objects that have all of these labels, as a URL has it."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def format_selector(selector: Mapping[str, Any]) -> str:
    """Return a label selector of an object, expressions included, as a URL has it.

    Source: Kubernetes, "Labels and Selectors".
    """
    terms = [match_labels(selector["matchLabels"])] if selector.get("matchLabels") else []
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], ",".join(rule.get("values") or [])
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(forms.get(rule["operator"], f"!{key}"))
    return ",".join(terms)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything, None matches nothing (policy/v1).

    Args:
        selector: The selector, as the API has it.
        labels: The labels of the object.
    """
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        value, values = labels.get(rule["key"]), rule.get("values") or []
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(rule["operator"], False):
            return False
    return True
