"""Rules, the findings that they yield, and sets of rules for one kind of subject."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from meshtrust.lint.values import has_placeholder
from meshtrust.pki.pem import without_private_keys

Severity = Literal["error", "warning", "note"]

# The worst first, as a report sorts them.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Location:
    """A place in a file.

    Attributes:
        file: Name of the file, as the user gave it.
        line: The line, from 1; None if it is not known.
        folded: Whether this one line holds all lines of a text, as base64 does.
    """

    file: str
    line: int | None = None
    folded: bool = False

    def below(self, lines: int) -> "Location":
        """Return the location of a line of the text that begins here, counted from 0."""
        return self if self.line is None or self.folded else Location(self.file, self.line + lines)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A requirement on one kind of subject.

    Attributes:
        id: Its name in reports; an id never gets another meaning.
        severity: An error breaks the mesh now or later; a warning may, or breaks a tool; a note is information.
        title: The fault that it finds, as a phrase.
        reason: The consequence, as sentences.
        source: Files of Linkerd, cert-manager or the proxy, or sections of an RFC, that the rule follows from.
        fix: The remedy, unless a finding has a more precise one.
    """

    id: str
    severity: Severity
    title: str
    reason: str
    source: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault, with what a person needs to correct it.

    Attributes:
        subject: The faulty thing: a configuration key, a certificate, an object of a cluster.
        wrong: The fault as a predicate, which names the value.
        fix: The remedy.
        severity: An error stops a run, a warning is shown.
        rule: The rule that it breaks; None if a configuration cannot be read.
        location: Its place, if it was read from a file.
    """

    subject: str
    wrong: str
    fix: str
    severity: Severity = "error"
    rule: Rule | None = None
    location: Location | None = None

    def __str__(self) -> str:
        """Return the finding as sentences."""
        return f"{self.subject} {self.wrong}. {self.fix}."


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A breach of a rule, with what differs from the rule's and the subject's own attributes.

    Attributes:
        text: The fault as a predicate, which names the value.
        fix: The remedy, if it is more precise than the rule's.
        member: The faulty member of the subject, such as `spec.duration`.
        location: Its place, if that is not the subject's.
        value: The faulty value; a placeholder is never faulty.
        severity: Its severity, if it is less than the rule's.
        elsewhere: Whether a missing value may be set elsewhere, so that the rule cannot decide.
    """

    text: str
    fix: str | None = None
    member: str = ""
    location: Location | None = None
    value: Any = None
    severity: Severity | None = None
    elsewhere: bool = False


class Subject(Protocol):
    """The subject of a rule, with its name and its place."""

    @property
    def name(self) -> str:
        """The name, for the beginning of a sentence."""

    @property
    def location(self) -> Location | None:
        """The place."""


S = TypeVar("S", bound=Subject)
Check = Callable[[S], Iterable[Violation | str]]


class RuleSet(Generic[S]):
    """The rules of one kind of subject.

    Attributes:
        title: The kind of subject, as a heading.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._checks: list[tuple[Rule, Callable[[S], bool], Check[S]]] = []

    @property
    def rules(self) -> list[Rule]:
        """The rules, in the order of their ids."""
        return sorted((rule for rule, _, _ in self._checks), key=lambda rule: rule.id)

    def rule(
        self,
        rule_id: str,
        severity: Severity,
        title: str,
        *,
        reason: str,
        source: str,
        fix: str,
        applies: Callable[[S], bool] = lambda _: True,
    ) -> Callable[[Check[S]], Check[S]]:
        """Return a decorator that makes a rule of a function, which yields the violations of a subject.

        The function is called only for subjects that the rule applies to.
        """
        rule = Rule(id=rule_id, severity=severity, title=title, reason=reason, source=source, fix=fix)

        def register(check: Check[S]) -> Check[S]:
            self._checks.append((rule, applies, check))
            return check

        return register

    def check(self, subject: S) -> Iterator[Finding]:
        """Yield the findings of the rules about a subject; a value that is still a placeholder is never wrong."""
        for rule, applies, check in self._checks:
            for found in check(subject) if applies(subject) else ():
                wrong = Violation(text=found) if isinstance(found, str) else found
                if wrong.elsewhere or has_placeholder(wrong.value):
                    continue
                # Rules never show keys; the names that they show may hold anything.
                yield Finding(
                    subject=without_private_keys(" ".join(filter(None, (subject.name, wrong.member)))),
                    wrong=without_private_keys(wrong.text),
                    fix=wrong.fix or rule.fix,
                    severity=wrong.severity or rule.severity,
                    rule=rule,
                    location=wrong.location or subject.location,
                )
