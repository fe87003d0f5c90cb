"""The former URNs of a resource, from its own alias options and those of its parents.

The rules of the real engine (pulumi/pulumi: pkg/resource/deploy/step_generator.go): a child of a renamed parent is
looked for under the parent's former name, also where the child's name begins with the parent's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rehearsal.engine import urns


@dataclass(frozen=True)
class Alias:
    """One alias option: a whole URN, or what differed from the present name. `parent` None means unchanged."""

    urn: str = ""
    name: str = ""
    type: str = ""
    stack: str = ""
    project: str = ""
    parent: str | None = None


def expand(
    *,
    stack: str,
    project: str,
    type_: str,
    name: str,
    parent: str,
    aliases: Iterable[Alias],
    parent_aliases: Iterable[str],
) -> list[str]:
    """Every former URN, most specific first, without the present one."""
    inherited = list(parent_aliases)
    found: list[str] = []
    for alias in aliases:
        if alias.urn:
            found.append(alias.urn)
            continue
        settings = (alias.stack or stack, alias.project or project)
        former_name, former_type = alias.name or name, alias.type or type_
        former_parent = parent if alias.parent is None else alias.parent
        found.append(urns.make(*settings, former_parent, former_type, former_name))
        if alias.parent is None:
            found += [
                urns.make(*settings, other, former_type, _child_name(former_name, parent, other)) for other in inherited
            ]
    found += [urns.make(stack, project, other, type_, _child_name(name, parent, other)) for other in inherited]
    present = urns.make(stack, project, parent, type_, name)
    return [urn for urn in dict.fromkeys(found) if urn != present]


def _child_name(name: str, parent: str, former_parent: str) -> str:
    parent_name = urns.name_of(parent)
    return urns.name_of(former_parent) + name.removeprefix(parent_name) if name.startswith(parent_name) else name
