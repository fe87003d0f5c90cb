"""Values of any type, as YAML gives them: safe access, and display without key material."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LONGEST = 60
# Filled in by other tools before Kubernetes or Helm sees it: Helm, helmfile, Flux, Argo CD and its plugins,
# Terraform, Jinja, ERB, envsubst, kustomize, Concourse, Azure DevOps, Autoconf, SOPS, vals, 1Password, and people.
# In a text these stand anywhere.
TEMPLATE = re.compile(
    r"""\$\{ | \$\( | \$\[\[ | \{\s*\{ | \{% | \{\# | %\{ | <% | \[\[ | \(\( | \#\{ | %[A-Z_]{2,}%
    | \$[A-Za-z_]\w* | @[@{]?[A-Za-z_][\w.-]*[@}]@? | __[A-Za-z]\w*?__ | <tag:""",
    re.VERBOSE,
)
# A text may be one of these as a whole.
_PLACEHOLDER = re.compile(
    r"""\s* (?: <[^<>\n]+>\s*$ | <[a-z]+: | ENC\[ | (?:secret)?ref\+ | vault: | op://
    | (?i:change|replace|fill)[-_ ]?(?i:me)\b | [A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\s*$ )""",
    re.VERBOSE,
)
# Bytes that are not text may hold anything.
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\ufffd]")
# A part that was left out on purpose before the text was published.
_LEFT_OUT = re.compile(r"\.{3}|…|[xX]{8}")


def shown(value: Any) -> str:
    """Return a value for a message: short, on one line, and without what could be key material."""
    if isinstance(value, Mapping | list):
        return "a map" if isinstance(value, Mapping) else "a list"
    text = str(value)
    return f'"{text}"' if len(text) <= _LONGEST and "\n" not in text else f"a text of {len(text)} characters"


def listed(values: Any) -> str:
    """Return a list for a message."""
    return ", ".join(str(value) for value in values) or "none"


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a map unchanged; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list unchanged; an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a text unchanged; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def at(value: Any, path: str) -> Any:
    """Return the value at a dotted path; None if there is none. A placeholder on the way stands for all below it."""
    for name in path.split("."):
        if is_placeholder(value):
            break
        value = mapping(value).get(name)
    return value


def is_placeholder(value: Any) -> bool:
    """Whether a text has a part that another tool fills in later."""
    if not isinstance(value, str) or _BINARY.search(value):
        return False
    return bool(TEMPLATE.search(value) or _PLACEHOLDER.match(value) or _LEFT_OUT.search(value))


def has_placeholder(value: Any) -> bool:
    """Whether a value, or anything in a list or a map, is a placeholder."""
    if isinstance(value, Mapping):
        return any(map(has_placeholder, [*value, *value.values()]))
    return any(map(has_placeholder, value)) if isinstance(value, list) else is_placeholder(value)


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return maps merged as Helm does: maps are merged, lists and texts are replaced."""
    both = {**below}
    for name, value in above.items():
        under = below.get(name)
        both[name] = overlaid(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return both


def misspelling(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a name is most likely meant to be; None if it is known, or resembles none."""
    names = list(known)
    if name in names or is_placeholder(name):
        return None
    same = [one for one in names if _plain(one) == _plain(name)]
    return next(iter(same or difflib.get_close_matches(name, names, n=1, cutoff=0.8)), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
