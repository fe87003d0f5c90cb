"""Reads the stack's configuration key by key, and gathers all that is wrong with it."""

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from components.charts import ChartSource
from meshtrust.cluster.connection.kubeconfig import is_content
from meshtrust.lint import Finding
from meshtrust.pki.durations import parse_duration
from meshtrust.pki.pem import without_private_keys
from meshtrust.pki.private_key import find_private_keys
from meshtrust.rotation.generation import NAME, NAME_FORM

T = TypeVar("T")

# A hundred years. Past 106,751 days the tls provider's hours are more than a Go duration can count (time.Duration:
# nanoseconds in 63 bits), so that a certificate's end could be at any time, before its beginning, too.
_MOST_DAYS = 36500
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Reader:
    """Reads key after key and gathers what is wrong with them, so that one run shows every mistake.

    A key with a dot is a path, as in Pulumi.yaml: `issuer.mode` is the member `mode` of the map `meshtrust:issuer`.
    """

    def __init__(self) -> None:
        self._config = pulumi.Config()
        self._read: set[str] = set()
        self.findings: list[Finding] = []

    def full_name(self, key: str) -> str:
        """Return a key as it is written in a stack's file."""
        return f"{self._config.name}:{key}"

    def refuse(self, key: str, wrong: str, fix: str) -> None:
        """Gather what is wrong with a key."""
        # A private key in a wrong place must not reach a log by the message that says so.
        subject, wrong, fix = map(without_private_keys, (self.full_name(key), wrong, fix))
        self.findings.append(Finding(subject=subject, wrong=wrong, fix=fix))

    def _shown(self, key: str, value: Any) -> str:
        """Return a value as a message may show it: never one that is a secret, or ought to be."""
        text = str(value)
        secret = self.is_encrypted(key) or "PRIVATE KEY" in text or (key == "kubeconfig" and is_content(text))
        return "[secret]" if secret else repr(value)

    def quoted(self, key: str, text: str) -> str:
        """Return a text in quotes, where a message may show it."""
        return "[secret]" if self.is_encrypted(key) else f'"{text}"'

    def is_encrypted(self, key: str) -> bool:
        """Whether a key is encrypted in the stack's file: Pulumi tells it of a map as a whole, not of its members."""
        return is_config_secret(self.full_name(key.partition(".")[0]))

    def _structure(self, name: str) -> Any:
        """Return a key that holds a map or a list; text that is neither is returned as it is."""
        try:
            return self._config.get_object(name)
        except pulumi.ConfigTypeError:
            return self._config.get(name)

    def _get(self, key: str) -> Any:
        self._read.add(key)
        name, _, member = key.partition(".")
        if not member:
            return self._config.get(name)
        section = self._structure(name)
        return section.get(member) if isinstance(section, Mapping) else None

    def _expect(self, key: str, value: Any, expected: str, fallback: T, convert: Callable[[Any], T | None]) -> T:
        if value is None:
            self.refuse(key, "is not set", f"Run: {_set_command(key)}")
            return fallback
        converted = convert(value)
        if converted is None:
            self.refuse(key, f"is {self._shown(key, value)}, not {expected}", f"Set it to {expected}")
            return fallback
        return converted

    def text(self, key: str) -> str:
        """Return a text; empty where it is none."""

        def convert(value: Any) -> str | None:
            # The CLI makes a number of what looks like one at a path, whatever it was declared as.
            return str(value) if isinstance(value, str) or type(value) is int else None

        return self._expect(key, self._get(key), "a text", "", convert)

    def required(self, key: str) -> str:
        """Return a text that must not be empty."""
        value = self.text(key)
        if not value and self._get(key) is not None:
            self.refuse(key, "is empty", f"Run: {_set_command(key)}")
        return value

    def refuse_set(self, key: str, because: str) -> None:
        """Refuse a key that was given a value; not given, it is empty by default."""
        if self._get(key) not in (None, "", "[]", "{}"):
            self.refuse(key, f"is {self._shown(key, self._get(key))}, {because}", f"Remove it: pulumi config rm {key}")

    def flag(self, key: str) -> bool:
        """Return true or false."""
        return self._expect(
            key,
            self._get(key),
            "true or false",
            False,
            lambda value: {"true": True, "false": False}.get(str(value).lower()),
        )

    def count(self, key: str, most: int, because: str) -> int:
        """Return a whole number from 1 up.

        Args:
            key: The key.
            most: What it is at most, of at most six digits.
            because: Why no more.
        """

        def convert(value: Any) -> int | None:
            return int(value) if re.fullmatch(r"-?[0-9]{1,6}", str(value)) else None

        value = self._expect(key, self._get(key), "a whole number of at most six digits", 1, convert)
        if value < 1:
            self.refuse(key, f"is {value}", "Set it to 1 or more")
            return 1
        if value > most:
            self.refuse(key, f"is {value}, above {most}: {because}", f"Set it to {most} or less")
            return most
        return value

    def days(self, key: str) -> timedelta:
        """Return the life of a certificate, configured in days."""
        because = "the provider that signs counts in Go durations, which end after 292 years; a century is enough"
        return timedelta(days=self.count(key, _MOST_DAYS, because))

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a map; empty where it is none."""
        empty: dict[str, Any] = {}
        value = self._get(key) if "." in key else self._structure(key)
        self._read.add(key)
        return self._expect(key, value, "a map", empty, lambda value: value if isinstance(value, dict) else None)

    def secrets(self, key: str) -> dict[str, Any]:
        """Return a map of secrets; empty where it is none, or stands in plaintext."""
        value = self.mapping(key)
        if value and not self.is_encrypted(key):
            self.refuse(
                key,
                "stands in plaintext in the stack's file",
                "Remove it there, take what it held for known to everyone who can read the file, and encrypt another: "
                f"pulumi config set --path --secret {key}.<name> < <file>",
            )
            return {}
        return value

    def helm_values(self, key: str, instead: str) -> dict[str, Any]:
        """Return Helm values, in which a private key is refused; empty where they are no map.

        Args:
            key: The key.
            instead: What is to be done instead of giving a private key.
        """
        values = self.mapping(key)
        # Whoever may read the file knows it.
        known = "" if self.is_encrypted(key) else ", take the key for known to everyone who can read the stack's file"
        for path in find_private_keys(values):
            self.refuse(
                f"{key}.{path}",
                "holds a private key, and Helm keeps the values with every revision of a release",
                f"Remove it{known}, and {instead}",
            )
        return values

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """Return one of several texts, whichever was written."""
        value = self.text(key)
        if value not in choices:
            self.refuse(key, f"is {self.quoted(key, value)}", f"Use one of {', '.join(choices)}")
        return value

    def listing(self, key: str, example: str = '["2026"]', *, may_be_empty: bool = False) -> list[Any]:
        """Return a list, which is empty where it is none, or where it may be."""
        empty: list[Any] = []
        value = self._get(key) if "." in key else self._structure(key)
        self._read.add(key)
        expected = f"a list, such as {example}"
        value = self._expect(key, value, expected, empty, lambda value: value if isinstance(value, list) else None)
        if not value and value is not empty and not may_be_empty:
            self.refuse(key, "is empty", f"Set it to {expected}")
        return value

    def duration(self, key: str) -> timedelta | None:
        """Return a duration, or nothing where it cannot be read, so that no rule is applied to a made-up one."""
        try:
            return parse_duration(self.text(key))
        except ValueError as error:
            self.refuse(key, f"cannot be read: {error}", 'Write hours, minutes and seconds, such as "48h" or "1h30m"')
            return None

    def matching(self, key: str, pattern: re.Pattern[str], form: str, *, may_be_empty: bool = False) -> str:
        """Return a text of a certain form, which may be empty where that has a meaning of its own."""
        value = self.text(key)
        if self._get(key) == "" and not may_be_empty:
            self.refuse(key, "is empty", f"Use {form}: {_set_command(key)}")
        if value and not pattern.fullmatch(value):
            self.refuse(key, f"is {self.quoted(key, value)}, not {form}", f"Use {form}")
        return value

    def name(self, key: str) -> str:
        """Return a name of the user's choice; one that looks like a number may have become one on its way here."""
        name = self.optional_name(key)
        if not name and self._get(key) is not None:
            self.refuse(key, "is empty", f"Use {NAME_FORM}")
        return name

    def optional_name(self, key: str) -> str:
        """Return a name of the user's choice, which may be empty."""
        value = self._get(key)
        name = self._expect(key, value, "a name", "", lambda value: str(value) if type(value) in (str, int) else None)
        if name and not NAME.fullmatch(name):
            self.refuse(key, f"is {self.quoted(key, name)}", f"Use {NAME_FORM}")
        return name

    def dns_label(self, key: str, *, may_be_empty: bool = False) -> str:
        """Return a DNS label, such as the name of a namespace; see `matching`."""
        form = "a DNS label (lower-case letters, digits and hyphens, at most 63)"
        return self.matching(key, _LABEL, form, may_be_empty=may_be_empty)

    def kubeconfig(self, key: str) -> str:
        """Return the path of a kubeconfig, which may be empty; one that was given itself is refused, and not shown."""
        value = self.text(key)
        if is_content(value):
            known = (
                "" if self.is_encrypted(key) else ", with other credentials: the stack's file shows those of this one"
            )
            self.refuse(
                key,
                "is a kubeconfig's content, and has to be its path",
                f"Save it as a file that only you can read (chmod 600 <file>){known}. Then run: "
                f"pulumi config set {key} <file>",
            )
            return ""
        return value

    def charts(self, section: str, pinned: str, charts: tuple[str, ...]) -> ChartSource:
        """Return where a section's charts are, in the pinned version unless it names another."""
        location = self.text(f"{section}.charts")
        source = ChartSource(location=location, version=self.text(f"{section}.version") or pinned, names=charts)
        for chart in source.missing(charts):
            self.refuse(
                f"{section}.charts",
                f'is "{location}", where there is no {chart}/Chart.yaml',
                "Name a directory that holds the chart, a Helm repository (https://) or an OCI registry (oci://)",
            )
        return source

    def refuse_unknown(self) -> None:
        """Refuse keys that nothing has read: a misspelt key would otherwise leave its default in force unseen."""
        prefix = self.full_name("")
        for name in sorted({**CONFIG.get(), **get_config_env()}):
            if name.startswith(prefix):
                self._refuse_unknown(name.removeprefix(prefix))

    def _refuse_unknown(self, name: str) -> None:
        if "." in name and name in self._read:
            section, member = name.split(".")
            self.refuse(
                name,
                "is written as one name, and is a path",
                f"Write {member} below {self.full_name(section)}: {_set_command(name)}, then pulumi config rm {name}",
            )
        elif any(known.startswith(f"{name}.") for known in self._read):
            section = self._structure(name)
            if isinstance(section, Mapping):
                for member in sorted(section.keys() - {known.partition(".")[2] for known in self._read}):
                    self._refuse_key(f"{name}.{member}", section[member])
            else:
                self.refuse(
                    name,
                    f"is {self._shown(name, section)}, not a map",
                    "Write its members below it, as docs/configuration.md has",
                )
        elif name not in self._read:
            self._refuse_key(name, self._config.get(name))

    def _refuse_key(self, key: str, value: Any) -> None:
        remove = f"Remove it: pulumi config rm {'--path ' if '.' in key else ''}{key}"
        if re.fullmatch(r"(issuer|anchor)\..*(algorithm|size|curve|key).*", key, re.IGNORECASE):
            wrong = f"is {self._shown(key, value)}, and that is no matter of choice: Linkerd takes ECDSA P-256"
            self.refuse(key, wrong, remove)
        else:
            near = difflib.get_close_matches(key, self._read, n=1)
            hint = f"Did you mean {self.full_name(near[0])}? " if near else ""
            self.refuse(key, "is no key of this program", hint + remove)


def _set_command(key: str) -> str:
    return f"pulumi config set {'--path ' if '.' in key else ''}{key} <value>"
