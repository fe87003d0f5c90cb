"""Messages about a stack's configuration: the key, its value, why it is refused, and the fix."""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from meshtrust.cluster.connection.kubeconfig import is_content
from meshtrust.lint import Finding
from meshtrust.pki.pem import without_private_keys
from meshtrust.pki.private_key import holds_private_key
from meshtrust.rotation.generation import NAME

PREFIX = "meshtrust:"

# What pydantic's own errors of types are about, but for texts, whose fields say it.
_KINDS = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a map",
    "tuple_type": "a list, such as {example}",
}
_MASK = "[secret]"


class Report:
    """Findings about a configuration, of which no message shows a secret value.

    Attributes:
        given: The configuration as it was read, by name.
        findings: The findings, errors and warnings.
        valid: Values that are valid by themselves, by key.
        deployed: The generations that the last deployment trusts: what belongs to them is needed until they are
            retired, though the goal no longer lists them.
    """

    def __init__(
        self,
        fields: Mapping[str, FieldInfo],
        given: Mapping[str, Any],
        encrypted: Collection[str],
        deployed: Collection[str] = (),
    ) -> None:
        """Begin without findings.

        Args:
            fields: The fields of all keys of the program.
            given: The configuration as it was read, by name.
            encrypted: Names whose values the stack's file encrypts: Pulumi reports it of a map as a whole.
            deployed: The generations that the last deployment trusts.
        """
        self.given = given
        self.findings: list[Finding] = []
        self.valid: dict[str, Any] = {}
        self.deployed = deployed
        self._fields = fields
        self._encrypted = encrypted

    def is_encrypted(self, key: str) -> bool:
        """Whether the stack's file encrypts a key."""
        return key.partition(".")[0] in self._encrypted

    def refuse(self, key: str, wrong: str, fix: str) -> None:
        """Add an error: a predicate of the key, and what to do."""
        # A private key in a wrong place must not reach a log by the message about it.
        subject, wrong, fix = map(without_private_keys, (f"{PREFIX}{key}", wrong, fix))
        self.findings.append(Finding(subject=subject, wrong=wrong, fix=fix))

    def warn(self, key: str, wrong: str, fix: str) -> None:
        """Add a warning: a predicate of the key, and what to do."""
        finding = Finding(subject=f"{PREFIX}{key}", wrong=without_private_keys(wrong), fix=fix, severity="warning")
        self.findings.append(finding)

    def add(self, finding: Finding) -> None:
        """Add what a rule of the linter found; its subject begins with the key. A rule quotes what is a value."""
        if self.is_encrypted(finding.subject):
            wrong = re.sub(r'\(?".*"\)?', _MASK, finding.wrong, flags=re.DOTALL)
            finding = replace(finding, wrong=wrong, fix=finding.rule.fix if finding.rule else finding.fix)
        self.findings.append(replace(finding, subject=f"{PREFIX}{finding.subject}"))

    def quoted(self, key: str, value: Any) -> str:
        """Return a value for a message, a text in double quotes; masked if it is secret."""
        return self.masked(key, value, f'"{value}"') if isinstance(value, str) else self.masked(key, value)

    def masked(self, key: str, value: Any, shown: str | None = None) -> str:
        """Return a value for a message as Python writes it, unless told how it is shown; masked if it is secret."""
        return _MASK if self._is_secret(key, value) else shown or repr(value)

    def _is_secret(self, key: str, value: Any) -> bool:
        is_kubeconfig = key == "kubeconfig" and is_content(str(value))
        # A key that holds a secret has none to show, in whichever form that was written.
        is_hidden = key in self._fields and not self._fields[key].repr
        return (
            self.is_encrypted(key)
            or is_kubeconfig
            or is_hidden
            or "PRIVATE KEY" in str(value)
            or holds_private_key(value)
        )

    def add_errors(self, section: str, errors: ValidationError) -> None:
        """Add the errors of a section, whose name is empty for the top."""
        for error in errors.errors(include_url=False):
            key = ".".join(str(part) for part in (section, *error["loc"][:1]) if part)
            if not error["loc"] or (error["type"] == "model_type" and len(error["loc"]) == 1):
                fix = "Write its members below it, as docs/configuration.md has"
                self.refuse(key, f"is {self.masked(key, error['input'])}, not a map", fix)
            elif error["type"] == "extra_forbidden":
                self._refuse_unknown(key, error["input"])
            else:
                self.refuse(key, *self._describe(key, error))

    def _describe(self, key: str, error: ErrorDetails) -> tuple[str, str]:
        """Return what is wrong with a key, and the fix."""
        field, context = self._fields[key], error.get("ctx", {})
        kind = _KINDS.get(error["type"], field.title or "a text")
        noun, form = kind.removeprefix("a "), field.description or kind
        match error["type"]:
            case "refused":
                wrong, fix, noun = context["wrong"], context["fix"], context["noun"]
            case "missing":
                wrong, fix = "is not set", "Run: {command}"
            case "too_short" | "string_too_short":
                wrong, fix = "is empty", f"Use {form}: {{command}}"
            case "string_pattern_mismatch" | "string_too_long":
                wrong, fix = "is {value}" if field.description else f"is {{value}}, not {kind}", f"Use {form}"
            case "literal_error":
                wrong, fix = "is {value}", f"Use one of {', '.join(filter(None, get_args(field.annotation)))}"
            case "greater_than_equal":
                wrong, fix = "is {value}", f"Set it to {context['ge']} or more"
            case "less_than_equal":
                wrong, fix = f"is {{value}}, above {context['le']}: {form}", f"Set it to {context['le']} or less"
            case "string_type":
                wrong = f"is {{python}}, not {kind}"
                fix = f"Use {form}" if field.description else f"Set it to {kind}"
            case _:
                wrong, fix = f"is {{python}}, not {kind}", f"Set it to {kind}"
        return self._place(key, error, wrong, fix, noun)

    def _place(self, key: str, error: ErrorDetails, wrong: str, fix: str, noun: str) -> tuple[str, str]:
        """Return what is wrong with a key, and the fix, if the value that is refused may be in a list or a map."""
        path, value = error["loc"][1:], error["input"]
        of_key = path[-1:] == ("[key]",)
        if path and "{member}" not in wrong and "{step}" not in wrong:
            if isinstance(path[-1], int):
                wrong = f"holds {{python}}, which is no {noun}"
            elif noun and not of_key:
                wrong = f"has {{member}} with {{python}}, which is no {noun}"
            else:
                wrong = f"has {{member}}, which {wrong}"
        member = str(value) if of_key else str(path[-1]) if path else ""
        names = {
            "{value}": self.quoted(key, value),
            "{python}": self.masked(key, value),
            "{member}": self._name(key, member, f'"{member}"'),
            "{step}": self._name(key, str(path[0]) if path else ""),
            "{command}": _set_command(key),
            "{example}": json.dumps((self._fields[key].examples or [[]])[0]),
        }
        for place, text in names.items():
            wrong, fix = wrong.replace(place, text), fix.replace(place, text)
        return wrong, fix

    def _name(self, key: str, name: str, shown: str = "") -> str:
        # A name of this form becomes a part of the names of objects, and of the stack's outputs.
        return _MASK if self.is_encrypted(key) and not NAME.fullmatch(name) else shown or name

    def _refuse_unknown(self, key: str, value: Any) -> None:
        section, _, member = key.partition(".")
        remove = f"pulumi config rm {'--path ' if member else ''}{key}"
        if key in self._fields:
            fix = f"Write {member} below {PREFIX}{section}: {_set_command(key)}, then pulumi config rm {key}"
            self.refuse(key, "is written as one name, and is a path", fix)
        elif re.fullmatch(r"(issuer|anchor)\..*(algorithm|size|curve|key).*", key, re.IGNORECASE):
            wrong = f"is {self.masked(key, value)}, and cannot be configured: Linkerd accepts only ECDSA P-256"
            self.refuse(key, wrong, f"Remove it: {remove}")
        else:
            known = self._fields if member else {name.partition(".")[0] for name in self._fields}
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"Did you mean {PREFIX}{near[0]}? Otherwise remove it" if near else "Remove it"
            self.refuse(key, "is an unknown key", f"{fix}: {remove}")


def _set_command(key: str) -> str:
    return f"pulumi config set {'--path ' if '.' in key else ''}{key} <value>"
