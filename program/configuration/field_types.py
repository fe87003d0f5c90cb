"""Types of configured values, each with the words for a value that it refuses."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from components.identity_issuer import IssuerReference
from meshtrust.names import CERT_MANAGER_GROUP
from meshtrust.pki.durations import parse_duration
from meshtrust.pki.pem import PemError, normalise_bundle, read_bundle
from meshtrust.pki.private_key import key_to_pem, read_private_key
from meshtrust.rotation.generation import NAME, NAME_FORM
from program.configuration.report import Report

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_STACK = r"[-A-Za-z0-9_.]{1,100}(/[-A-Za-z0-9_.]{1,100}/[-A-Za-z0-9_.]{1,100})?"
_WORKLOAD = rf"[A-Z][A-Za-z]+ {_LABEL}/[a-z0-9][-a-z0-9.]{{0,252}}"
_STEP = re.compile(r"(deploy|switch|retire|replace)-[-a-z0-9]+")


def _refusal(wrong: str, fix: str, noun: str = "") -> PydanticCustomError:
    """Return the error of a value, which `Report` makes a message of.

    Args:
        wrong: A predicate of the key. ``{value}`` in it stands for the value, ``{member}`` for the member of a map that
            has it, ``{step}`` for the first member on the way there.
        fix: An order. ``{command}`` in it stands for the command that sets the key.
        noun: The kind of value that was expected, for a value in a list or a map.
    """
    return PydanticCustomError("refused", "{wrong}", {"wrong": wrong, "fix": fix, "noun": noun})


def _text(value: Any) -> Any:
    # `pulumi config set --path` writes a number if the value looks like one, whatever the type of the key.
    return str(value) if type(value) is int else value


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(str(value).lower(), value)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value) else value


def _duration(value: Any) -> timedelta:
    text = str(value)
    try:
        return parse_duration(text)
    except ValueError as error:
        wrong, fix = (
            str(error).replace(f'"{text}"', "{value}"),
            'Write hours, minutes and seconds, such as "48h" or "1h30m"',
        )
        raise _refusal(f"cannot be read: {wrong}", fix) from None


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise _refusal("is {value}, which names one twice", "Name each once")
    return values


def _any(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise _refusal("is empty", "Set it to a list, such as {example}")
    return values


def _generation(name: str, info: ValidationInfo[Report]) -> str:
    if name not in (*info.context.valid.get("anchors", (name,)), *info.context.deployed):
        raise _refusal("is not one of meshtrust:anchors", "Add it there, or remove it here")
    return name


def _pem(read: Callable[[str], str], what: str) -> BeforeValidator:
    def check(value: Any) -> str:
        try:
            return read(str(value))
        except PemError as error:
            raise _refusal(f"cannot be used: {error}", f"Give the root's {what} as PEM") from None

    return BeforeValidator(check)


def _root(text: str) -> str:
    if len(roots := read_bundle(text)) > 1:
        raise _refusal(f"has {{member}} with {len(roots)} certificates", "Give the root's certificate alone")
    return normalise_bundle(text)


def _encrypted(value: Any, info: ValidationInfo[Report]) -> Any:
    if isinstance(value, Mapping) and value and not info.context.is_encrypted("anchorKeys"):
        raise _refusal(
            "stands in plaintext in the stack's file",
            "Remove it there, take what it held for known to everyone who can read the file, and encrypt another: "
            "pulumi config set --path --secret anchorKeys.<name> < <file>",
        )
    return value


def _license(value: Any, info: ValidationInfo[Report]) -> Any:
    if isinstance(value, str) and value.strip() and not info.context.is_encrypted("linkerd"):
        raise _refusal(
            "stands in plaintext in the stack's file",
            "Remove it there, have another one issued, and encrypt that: pulumi config set --path --secret "
            "linkerd.license < <file>",
        )
    return value.strip() if isinstance(value, str) else value


def _reference(given: Any) -> IssuerReference:
    members = {"kind": "Issuer", "group": CERT_MANAGER_GROUP, **given} if isinstance(given, Mapping) else {}
    are_texts = all(isinstance(value, str) and value for value in members.values())
    if members.keys() != {"group", "kind", "name"} or not are_texts:
        fix = "Give its name, and its kind and group if they are not Issuer and cert-manager.io"
        raise _refusal("", fix, "reference of an issuer")
    return IssuerReference(**members)


def _key(text: str) -> str:
    return key_to_pem(read_private_key(text))


def _step(name: str) -> str:
    if not _STEP.fullmatch(name):
        raise _refusal("names no step", "Name it as the refusal does, such as switch-2027 or retire-2026")
    return name


def _reason(wrong: str, fix: str) -> BeforeValidator:
    def check(reason: Any) -> str:
        if not isinstance(reason, str) or not reason.strip():
            raise _refusal(wrong, fix)
        return reason.strip()

    return BeforeValidator(check)


def _objects(value: Any) -> Any:
    if not isinstance(value, Mapping):
        fix = "Set it by the command in the refusal of the step, which names that and what is acknowledged"
        raise _refusal("is no step with names under it", fix)
    return value


# A title is the kind of text, a description its form, if the title does not say it; `Report` has both in its messages.
_NAMES = Field(title="a name", description=NAME_FORM)
_STACKS = Field(title="a name of a stack", description="the name of a stack, or organization/project/stack")
_GATEWAYS = Field(
    title="a name of a gateway",
    description="the name that the refusal has, such as Deployment linkerd-multicluster/linkerd-gateway",
)

Text = Annotated[str, Field(title="a text"), BeforeValidator(_text)]
OptionalName = Annotated[Text, _NAMES, Field(pattern=rf"^({NAME.pattern})?$")]
Name = Annotated[OptionalName, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], _NAMES, AfterValidator(_any), AfterValidator(_unique)]
OptionalDnsLabel = Annotated[
    Text,
    Field(pattern=rf"^({_LABEL})?$", title="a DNS label (lower-case letters, digits and hyphens, at most 63)"),
]
DnsLabel = Annotated[OptionalDnsLabel, Field(min_length=1)]
DnsName = Annotated[
    Text,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        min_length=1,
        max_length=200,
        title="a DNS name in lower case",
    ),
]
OptionalDnsName = Annotated[
    Text,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
        max_length=253,
        title="a DNS name in lower case",
    ),
]
License = Annotated[str, Field(title="a text"), BeforeValidator(_license)]
OptionalStack = Annotated[Text, _STACKS, Field(pattern=rf"^({_STACK})?$")]
Stacks = Annotated[tuple[Annotated[OptionalStack, Field(min_length=1)], ...], _STACKS, AfterValidator(_unique)]
Gateways = Annotated[tuple[Annotated[Text, Field(pattern=rf"^{_WORKLOAD}$")], ...], _GATEWAYS, AfterValidator(_unique)]
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag)]
Count = Annotated[int, Field(strict=True, ge=1), BeforeValidator(_number)]
GoDuration = Annotated[timedelta, BeforeValidator(_duration)]
_Generation = Annotated[str, AfterValidator(_generation)]
Roots = dict[_Generation, Annotated[str, _pem(_root, "certificate")]]
Keys = Annotated[dict[str, Annotated[str, _pem(_key, "key")]], BeforeValidator(_encrypted)]
References = dict[_Generation, Annotated[IssuerReference, BeforeValidator(_reference)]]
Overrides = dict[
    Annotated[str, AfterValidator(_step)],
    Annotated[str, _reason("has {step} without a reason", "Say why the step may go ahead; the outputs keep it")],
]
Acknowledged = dict[
    Annotated[str, AfterValidator(_step)],
    Annotated[
        dict[
            str,
            Annotated[
                str, _reason("has {member} without a reason", "Say how you made sure that {step} does not cut it off")
            ],
        ],
        BeforeValidator(_objects),
    ],
]
# A hundred years. Past 106,751 days the tls provider's hours are more than a Go duration can count (time.Duration:
# nanoseconds in 63 bits), so that a certificate's end could be at any time, even before its beginning.
_GO = "the provider that signs counts in Go durations, which end after 292 years; a century is enough"
Days = Annotated[Count, Field(le=36500, description=_GO)]
Seconds = Annotated[Count, Field(le=86400, description="proxies whose certificates nobody renews fail within a day")]
