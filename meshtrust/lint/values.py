"""Values of any type, as YAML gives them: asked for safely, and shown without giving away a key."""

import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 60
# Filled in by something else before Kubernetes or Helm sees it: Helm, helmfile, Flux, Argo CD and its plugins,
# Terraform, Jinja, ERB, envsubst, kustomize, Concourse, Azure DevOps, Autoconf, SOPS, vals, 1Password, and people.
_PLACEHOLDER = re.compile(
    r"""
    \$\{ | \$\( | \$\[\[ | \$[A-Za-z_]\w* | \{\{ | \{% | \{\# | %\{ | <% | \[\[ | \(\( | \#\{ | %%?[A-Z_]{2,}%
    | @[@{]?[A-Za-z_][\w.-]*[@}]@? | __[A-Za-z]\w*__
    | ^\s*(?: <[^<>\n]+> | ENC\[ | (?:secret)?ref\+ | vault: | op:// | (?:change|replace|fill)[-_ ]?me\b
    | (?-i:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\s*$ )
    """,
    re.VERBOSE | re.IGNORECASE,
)


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
    """Return what a dotted path leads to, or None; a placeholder on the way stands for all that is below it."""
    for name in path.split("."):
        if is_placeholder(value):
            break
        value = mapping(value).get(name)
    return value


def is_placeholder(value: Any) -> bool:
    """Whether a text has a part that something else fills in later, so that it says nothing yet."""
    return isinstance(value, str) and _PLACEHOLDER.search(value) is not None


def has_placeholder(value: Any) -> bool:
    """Whether a value, or anything in a list or a map, is a placeholder."""
    if isinstance(value, Mapping):
        return any(map(has_placeholder, [*value, *value.values()]))
    return any(map(has_placeholder, value)) if isinstance(value, list) else is_placeholder(value)
