"""pulumi-random's RandomId, RandomString, RandomPassword and RandomUuid, as version 4.21.4 has them.

RandomPassword lacks the output `bcryptHash`: nothing that the project depends on makes bcrypt hashes, and the
program uses none.
"""

from __future__ import annotations

import base64
import secrets
import string
import uuid
from typing import Any

from rehearsal.providers.generated import GeneratedProvider, Kind
from rehearsal.providers.values import Properties

_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
_CLASSES = {
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "numeric": string.digits,
    "special": _SPECIAL,
}
_STRING_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("lower", "upper", "numeric", "number", "special"), True),
    **dict.fromkeys(("minLower", "minUpper", "minNumeric", "minSpecial"), 0),
}


def _identifier(inputs: dict[str, Any]) -> tuple[str, Properties]:
    raw = secrets.token_bytes(inputs["byteLength"])
    prefix = inputs.get("prefix") or ""
    url = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return url, {
        "b64Url": prefix + url,
        "b64Std": prefix + base64.b64encode(raw).decode(),
        "hex": prefix + raw.hex(),
        "dec": prefix + str(int.from_bytes(raw)),
    }


def _text(inputs: dict[str, Any]) -> str:
    alphabets = dict(_CLASSES)
    alphabets["special"] = inputs.get("overrideSpecial") or _SPECIAL
    chosen = [
        secrets.choice(alphabet)
        for name, alphabet in alphabets.items()
        for _ in range(inputs[f"min{name.capitalize()}"])
    ]
    pool = "".join(alphabet for name, alphabet in alphabets.items() if inputs[name])
    chosen += [secrets.choice(pool) for _ in range(inputs["length"] - len(chosen))]
    secrets.SystemRandom().shuffle(chosen)
    return "".join(chosen)


def _string(inputs: dict[str, Any]) -> tuple[str, Properties]:
    result = _text(inputs)
    return result, {"result": result}


def _password(inputs: dict[str, Any]) -> tuple[str, Properties]:
    # The id of a password is the word "none", so that the secret is not in it.
    return "none", {"result": _text(inputs)}


def _uuid(_inputs: dict[str, Any]) -> tuple[str, Properties]:
    result = str(uuid.uuid4())
    return result, {"result": result}


def _check_string(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    settled = {**_STRING_DEFAULTS, **inputs}
    least = sum(settled[f"min{name.capitalize()}"] for name in _CLASSES)
    if settled.get("length", least) < max(least, 1):
        return [("length", f"length {settled['length']} must be at least {max(least, 1)}, the sum of the minima")]
    if not any(settled[name] for name in _CLASSES):
        return [("", "at least one of lower, upper, numeric and special must be true")]
    return []


def _check_identifier(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    length = inputs.get("byteLength", 1)
    return [] if length >= 1 else [("byteLength", f"byteLength must be at least 1, got {length}")]


def provider() -> GeneratedProvider:
    """The random provider."""
    text_inputs = ("overrideSpecial", "keepers")
    return GeneratedProvider(
        {
            "random:index/randomId:RandomId": Kind(
                _identifier,
                computed=("b64Url", "b64Std", "hex", "dec"),
                required=("byteLength",),
                optional=("prefix", "keepers"),
                validate=_check_identifier,
            ),
            "random:index/randomString:RandomString": Kind(
                _string,
                computed=("result",),
                required=("length",),
                optional=text_inputs,
                defaults=_STRING_DEFAULTS,
                validate=_check_string,
            ),
            "random:index/randomPassword:RandomPassword": Kind(
                _password,
                computed=("result",),
                required=("length",),
                optional=text_inputs,
                defaults=_STRING_DEFAULTS,
                secret=("result",),
                validate=_check_string,
            ),
            "random:index/randomUuid:RandomUuid": Kind(_uuid, computed=("result",), optional=("keepers",)),
        }
    )
