"""What a rule is, what it finds, and how rules are gathered."""

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
    """Where something stands.

    Attributes:
        file: A file, as it was named.
        line: The line, from 1, where it is known.
        folded: Whether all lines of a text stand in this one, as those of a text in base64 do.
    """

    file: str
    line: int | None = None
    folded: bool = False

    def below(self, lines: int) -> "Location":
        """Return the location of a line of the text that begins here, counted from 0."""
        return self if self.line is None or self.folded else Location(self.file, self.line + lines)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that must not be.

    Attributes:
        id: Its name in reports, which never changes its meaning.
        severity: An error breaks the mesh, or will; a warning may, or breaks a tool; a note is good to know.
        title: What it finds, as a phrase.
        reason: Why that is wrong, as sentences.
        source: Where that is written: files of Linkerd, cert-manager or the proxy, sections of an RFC.
        fix: What to do, where a finding has nothing more precise to say.
    """

    id: str
    severity: Severity
    title: str
    reason: str
    source: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, told so that a person can put it right.

    Attributes:
        subject: What it is about: a configuration key, a certificate, an object of a cluster.
        wrong: What is wrong with it, naming the value.
        fix: What to do about it.
        severity: An error stops a run, a warning is shown.
        rule: The rule that it breaks; None if a configuration says something that cannot be read at all.
        location: Where it stands, where it was read from a file.
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
    """What a rule says of its subject, with what differs from the rule's and the subject's own.

    Attributes:
        text: What is wrong, naming the value, as a predicate.
        fix: What to do, where there is something more precise than the rule's.
        member: What of the subject it is about, such as `spec.duration`.
        location: Where it stands, where that is not the subject's place.
        value: The value that is wrong: while it is a placeholder, nothing is.
        severity: How bad it is, where that is less than the rule has it.
        elsewhere: Whether it is that something is missing, and may stand elsewhere, so that nothing is known.
    """

    text: str
    fix: str | None = None
    member: str = ""
    location: Location | None = None
    value: Any = None
    severity: Severity | None = None
    elsewhere: bool = False


class Subject(Protocol):
    """What a rule judges: it has a name, and a place where it was read from a file."""

    @property
    def name(self) -> str:
        """The name, as a sentence begins with it."""

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
        """Return a decorator that makes a rule of a function, which yields what is wrong with a subject.

        The function is asked only about subjects that the rule applies to.
        """
        rule = Rule(id=rule_id, severity=severity, title=title, reason=reason, source=source, fix=fix)

        def register(check: Check[S]) -> Check[S]:
            self._checks.append((rule, applies, check))
            return check

        return register

    def check(self, subject: S) -> Iterator[Finding]:
        """Yield what the rules find wrong with a subject; a value that is yet to be filled in is never wrong."""
        for rule, applies, check in self._checks:
            for said in check(subject) if applies(subject) else ():
                wrong = Violation(text=said) if isinstance(said, str) else said
                if wrong.elsewhere or has_placeholder(wrong.value):
                    continue
                # Rules do not show keys; names, which they do show, may hold anything.
                yield Finding(
                    subject=without_private_keys(" ".join(filter(None, (subject.name, wrong.member)))),
                    wrong=without_private_keys(wrong.text),
                    fix=wrong.fix or rule.fix,
                    severity=wrong.severity or rule.severity,
                    rule=rule,
                    location=wrong.location or subject.location,
                )
