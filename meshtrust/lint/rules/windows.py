"""Lifetimes and renewals: of a certificate, and of a certificate under its CA."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from meshtrust.lint.rule import Finding, Location, RuleSet, Violation
from meshtrust.lint.rules.credentials import LeafLifetime
from meshtrust.pki.durations import format_duration

# cert-manager, pkg/apis/certmanager/v1: MinimumCertificateDuration and MinimumRenewBefore.
MINIMUM_DURATION = timedelta(hours=1)
MINIMUM_RENEW_BEFORE = timedelta(minutes=5)

Role = Literal["issuer", "intermediate", "anchor", "webhook"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Lifetime of a certificate, and the time at which cert-manager renews it.

    Attributes:
        name: Its holder; empty if the members' names are enough.
        role: Purpose of the certificate.
        duration: Its lifetime.
        renew_before: Time before its end at which it is renewed.
        leaf: Lifetime of the certificates that the identity issuer signs.
        defaulted: Whether no time of renewal is set, so that cert-manager's default applies.
        duration_name: Name of the member that holds the lifetime.
        renew_before_name: Name of the member that holds the time of renewal.
        duration_location: Place of the lifetime.
        renew_before_location: Place of the time of renewal.
    """

    name: str = ""
    role: Role
    duration: timedelta
    renew_before: timedelta
    leaf: LeafLifetime = field(default_factory=LeafLifetime)
    defaulted: bool = False
    duration_name: str = "spec.duration"
    renew_before_name: str = "spec.renewBefore"
    duration_location: Location | None = None
    renew_before_location: Location | None = None

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.renew_before_location or self.duration_location

    @property
    def renewal(self) -> str:
        """The value of the renewal, as a predicate."""
        length = format_duration(self.renew_before)
        return f'is not set, which makes it "{length}"' if self.defaulted else f'is "{length}"'

    @property
    def renews_after(self) -> timedelta:
        """The time from its issue to its renewal."""
        return self.duration - self.renew_before


@dataclass(frozen=True, kw_only=True)
class LifetimeUnderCA:
    """A certificate and the CA that signs it, by their lifetimes.

    Attributes:
        name: The certificate, for the beginning of a sentence; empty if the member's name is enough.
        what: The certificate, within a sentence.
        duration: Its lifetime.
        duration_name: Name of the member that holds it.
        ca: The CA, within a sentence.
        ca_says: The CA's lifetime and its place, as a clause.
        ca_duration: Its lifetime.
        ca_renew_before: Time before its end at which the CA is renewed; None if it is not renewed.
        location: Place of the certificate's lifetime.
    """

    name: str = ""
    what: str = "the issuer"
    duration: timedelta
    duration_name: str = "spec.duration"
    ca: str
    ca_says: str
    ca_duration: timedelta
    ca_renew_before: timedelta | None = None
    location: Location | None = None


WINDOWS = RuleSet[Window]("Lifetime and renewal")
LIFETIMES_UNDER_CAS = RuleSet[LifetimeUnderCA]("A certificate's lifetime and its CA's")


@WINDOWS.rule(
    "MT301",
    "error",
    "The lifetime is below cert-manager's minimum",
    reason="cert-manager's webhook refuses a Certificate of less than an hour.",
    source="cert-manager pkg/apis/certmanager/v1/const.go, MinimumCertificateDuration",
    fix="Set it to 48h, or to anything from 1h up that is above renewBefore",
)
def _minimum_duration(window: Window) -> Iterator[Violation]:
    if window.duration < MINIMUM_DURATION:
        minimum = format_duration(MINIMUM_DURATION)
        yield Violation(
            text=f'is "{format_duration(window.duration)}", below cert-manager\'s minimum of {minimum}',
            fix=_fix(window),
            member=window.duration_name,
            location=window.duration_location,
        )


@WINDOWS.rule(
    "MT302",
    "error",
    "The renewal comes later than cert-manager allows",
    reason="cert-manager's webhook refuses a Certificate that is to be renewed less than five minutes before its end.",
    source="cert-manager pkg/apis/certmanager/v1/const.go, MinimumRenewBefore",
    fix="Set it to 25h, or to anything from 5m up",
)
def _minimum_renew_before(window: Window) -> Iterator[Violation]:
    if window.renew_before < MINIMUM_RENEW_BEFORE:
        minimum = format_duration(MINIMUM_RENEW_BEFORE)
        yield Violation(
            text=f"{window.renewal}, below cert-manager's minimum of {minimum}",
            fix=_fix(window),
            member=window.renew_before_name,
        )


@WINDOWS.rule(
    "MT303",
    "error",
    "The renewal is due as soon as the certificate is issued",
    reason="cert-manager's webhook refuses a renewBefore that is not below the duration.",
    source="cert-manager internal/apis/certmanager/validation/certificate.go, ValidateDuration",
    fix="Set it to 25h with a duration of 48h, or to anything below the duration",
)
def _renewed_at_once(window: Window) -> Iterator[Violation]:
    if window.renew_before >= window.duration:
        yield Violation(
            text=f"{window.renewal}, not below {window.duration_name} "
            f'("{format_duration(window.duration)}"), so that every {_WHAT[window.role]} would be due for renewal the '
            "moment it is issued",
            fix=_fix(window),
            member=window.renew_before_name,
        )


@WINDOWS.rule(
    "MT304",
    "warning",
    "The identity issuer's remaining life can fall below that of a leaf",
    reason="No leaf outlives its issuer, so that an issuer with less life left signs certificates that end "
    "early, all of them at the same moment.",
    source="linkerd2 pkg/tls/ca.go, createTemplate; charts/linkerd-control-plane/values.yaml, issuanceLifetime and "
    "clockSkewAllowance",
    fix="Set it to 25h",
    applies=lambda window: window.role == "issuer",
)
def _below_a_leaf(window: Window) -> Iterator[Violation]:
    if window.renew_before < min(window.leaf.whole, window.duration):
        yield Violation(
            text=f"{window.renewal}, below {window.leaf}: an issuer close to its renewal "
            "signs certificates that end with it",
            fix=_fix(window),
            member=window.renew_before_name,
        )


@WINDOWS.rule(
    "MT305",
    "warning",
    "A CA is renewed in the first half of its life",
    reason="renewBefore counts from the end. Meant as a long life with a renewal shortly before its end, a value "
    "close to the duration renews the CA shortly after it was issued instead: the guide's 8760h with 7320h does so "
    "after 60 days, not after ten months.",
    source="cert-manager pkg/util/pki/renewaltime.go; linkerd.io, Automatically Rotating Control Plane TLS Credentials",
    fix="Set renewBefore to the time before the end that is meant",
    applies=lambda window: window.role in ("anchor", "intermediate"),
)
def _renewed_early(window: Window) -> Iterator[Violation]:
    if window.duration / 2 < window.renew_before < window.duration:
        swapped = format_duration(window.renews_after)
        yield Violation(
            text=f"{window.renewal} of {window.duration_name} "
            f'"{format_duration(window.duration)}", so it is renewed {_long(window.renews_after)} after each '
            "issue, in the first half of its life",
            fix=f'Set it to "{swapped}" if the renewal is meant to come that long before its end',
            member=window.renew_before_name,
        )


@LIFETIMES_UNDER_CAS.rule(
    "MT306",
    "error",
    "A certificate lives as long as its CA, or longer",
    reason="It outlives its CA, and every proxy refuses it from the CA's end on. cert-manager's CA issuers do "
    "not shorten the dates.",
    source="RFC 5280 §6.1.3; cert-manager issue 5864",
    fix="Set a shorter duration, such as 48h, or give the CA a longer one",
)
def _outlives_its_ca(lifetime: LifetimeUnderCA) -> Iterator[Violation]:
    if lifetime.duration >= lifetime.ca_duration:
        shorter = format_duration(_SOUND_DURATION)
        fix = None
        if lifetime.ca_duration <= _SOUND_DURATION:
            fix = f"Give the CA a longer life, above {shorter}"
        elif not lifetime.name:
            fix = f"Set a shorter duration, such as {shorter}, or give the anchor more days"
        yield Violation(
            text=f'is "{format_duration(lifetime.duration)}", and {lifetime.ca_says}: {lifetime.what} would '
            f"outlive {lifetime.ca} and be refused by every proxy from that day on",
            fix=fix,
            member=lifetime.duration_name,
        )


@LIFETIMES_UNDER_CAS.rule(
    "MT307",
    "error",
    "A certificate issued just before its CA's renewal outlives the CA",
    reason="A CA's renewal does not re-issue what it signed. A certificate from its last moment before the renewal "
    "lives its whole duration; the CA that signed it ends renewBefore after.",
    source="cert-manager issues 5558 and 5864 (a CA's renewal leaves its children as they are)",
    fix="Set the CA's renewBefore above the duration of what it signs",
)
def _outlives_its_renewed_ca(lifetime: LifetimeUnderCA) -> Iterator[Violation]:
    left = lifetime.ca_renew_before
    if left is not None and left <= lifetime.duration < lifetime.ca_duration:
        yield Violation(
            text=f'is "{format_duration(lifetime.duration)}", and {lifetime.ca} has only {format_duration(left)} '
            f"to live when it is issued again: {lifetime.what} signed just before that would outlive it",
            member=lifetime.duration_name,
        )


_WHAT: dict[Role, str] = {
    "issuer": "issuer",
    "intermediate": "intermediate",
    "anchor": "trust anchor",
    "webhook": "certificate",
}


# The guide's lifetime of an identity issuer.
_SOUND_DURATION = timedelta(hours=48)


def _fix(window: Window) -> str | None:
    """Return values that make an identity issuer's lifetime and renewal sound together; None for other certificates.

    All rules share this fix, so that no fix leads to a value that another rule refuses.
    """
    if window.role != "issuer" or window.leaf.hidden:
        return None
    renew_before = _rounded_up(window.leaf.whole)
    duration = max(_SOUND_DURATION, 2 * renew_before - timedelta(hours=2))
    if renew_before < window.duration >= MINIMUM_DURATION:
        return f"Set {window.renew_before_name} to {format_duration(renew_before)}"
    both = f"{window.duration_name} to {format_duration(duration)}"
    return f"Set {both} and {window.renew_before_name} to {format_duration(renew_before)}"


def _rounded_up(length: timedelta) -> timedelta:
    """Return the next whole hour that leaves a margin, as the guide's 25h is to 24h."""
    return (length // timedelta(hours=1) + 1) * timedelta(hours=1)


def _long(length: timedelta) -> str:
    """Return a length of time for people."""
    return f"{length.days} days" if length >= timedelta(days=3) else format_duration(length)


def lint_issuer_window(
    duration: timedelta,
    renew_before: timedelta,
    anchor_validity: timedelta,
    leaf: LeafLifetime = LeafLifetime(),  # noqa: B008 - it is frozen
) -> Iterator[Finding]:
    """Judge the identity issuer's lifetime against cert-manager, the trust anchor and the proxies.

    Args:
        duration: Lifetime of the issuer.
        renew_before: Time before its end at which cert-manager renews it.
        anchor_validity: Lifetime of the trust anchor.
        leaf: Lifetime of the certificates that the issuer signs.
    """
    yield from WINDOWS.check(
        Window(
            role="issuer",
            duration=duration,
            renew_before=renew_before,
            leaf=leaf,
            duration_name="issuer.duration",
            renew_before_name="issuer.renewBefore",
        )
    )
    yield from LIFETIMES_UNDER_CAS.check(
        LifetimeUnderCA(
            duration=duration,
            duration_name="issuer.duration",
            ca="its trust anchor",
            ca_says=f"anchor.validityDays is {anchor_validity.days}",
            ca_duration=anchor_validity,
        )
    )
