"""URNs: the names of resources in a deployment, and what is read from them."""

from __future__ import annotations

import re

STACK_TYPE = "pulumi:pulumi:Stack"
PROVIDER_PREFIX = "pulumi:providers:"


def make(stack: str, project: str, parent: str, type_: str, name: str) -> str:
    """The URN of a resource; `parent` is a URN or empty."""
    qualified = type_
    if parent and type_of(parent) != STACK_TYPE:
        qualified = f"{qualified_type(parent)}${type_}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def qualified_type(urn: str) -> str:
    """The chain of parents' types, joined by `$`."""
    return urn.split("::", 3)[2]


def type_of(urn: str) -> str:
    """The resource's own type."""
    return qualified_type(urn).rsplit("$", 1)[-1]


def name_of(urn: str) -> str:
    """The resource's name."""
    return urn.split("::", 3)[3]


def display_type(urn: str) -> str:
    """The type as the CLI shows it: `tls:index/privateKey:PrivateKey` is `tls:index:PrivateKey`."""
    type_ = type_of(urn)
    return re.sub(
        r"^([^:]+:)([^:]*)/([^:/]+)(:)(\w+)$",
        lambda match: (
            f"{match[1]}{match[2]}:{match[5]}" if match[3] == match[5][0].lower() + match[5][1:] else match[0]
        ),
        type_,
    )


def package_of(type_: str) -> str:
    """The package that serves a type: `tls` for `tls:index/privateKey:PrivateKey`."""
    if type_.startswith(PROVIDER_PREFIX):
        return type_.removeprefix(PROVIDER_PREFIX)
    return type_.split(":", 1)[0]


def is_provider(type_: str) -> bool:
    """Whether the type is that of a provider resource."""
    return type_.startswith(PROVIDER_PREFIX)


def is_default_provider(urn: str) -> bool:
    """Whether the URN is that of a provider the program did not name itself."""
    return is_provider(type_of(urn)) and name_of(urn).startswith("default")
