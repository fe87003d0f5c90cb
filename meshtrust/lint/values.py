"""Values of any type, as YAML gives them: asked for safely, and shown without giving away a key."""

import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 60
# Filled in by something else before Kubernetes or Helm sees it: Flux, Helm, Argo CD's plugins, SOPS, vals.
_PLACEHOLDER = re.compile(r"\s*(\$\{|\$\(|\{\{|<[a-z]+:|ENC\[|ref\+|vault:)")


def shown(value: Any) -> str:
    """Return a value for a message: short, on one line, and nothing of what could be key material."""
    if isinstance(value, Mapping | list):
        return "a map" if isinstance(value, Mapping) else "a list"
    text = str(value)
    return f'"{text}"' if len(text) <= _LONGEST and "\n" not in text else f"a text of {len(text)} characters"


def listed(values: Any) -> str:
    """Return a list for a message."""
    return ", ".join(str(value) for value in values) or "none"


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a map as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a text as it is, and an empty one for anything else."""
    return value if isinstance(value, str) else ""


def at(value: Any, path: str) -> Any:
    """Return what a dotted path leads to, or nothing."""
    for name in path.split("."):
        value = mapping(value).get(name)
    return value


def is_placeholder(value: Any) -> bool:
    """Whether a text is one that something else fills in later, so that it says nothing yet."""
    return isinstance(value, str) and _PLACEHOLDER.match(value) is not None
