"""Anchors that have ended are replaced at once only where nothing speaks under them any more."""

from datetime import UTC, datetime, timedelta

from meshtrust.fleet.pledge import Pledge
from meshtrust.replacement import blocks_replace_in_fleet, silent_from
from meshtrust.rotation import Step, Trust
from tests.certificates import make_certificate

NOW = datetime.now(UTC)
STEP = Step(
    kind="replace",
    generations=("2027",),
    before=Trust(anchors=("2026",), signer="2026"),
    after=Trust(anchors=("2027",), signer="2027"),
)


def ended(hours):
    """A root that ended so many hours ago."""
    return make_certificate(age=10, days=0, hours=-hours)


def test_a_day_after_the_last_of_the_ended_roots_nothing_can_be_alive():
    roots = [ended(30).certificate, ended(3).certificate]
    assert silent_from(roots) - timedelta(hours=24) > roots[1].not_valid_after_utc
    assert silent_from(roots) < roots[1].not_valid_after_utc + timedelta(hours=25)


def test_the_other_clusters_of_a_fleet_are_asked_as_long_as_they_may_speak_under_what_has_ended():
    speaking = Pledge(stamp="b", anchors=("2026",), signer="2026", accepts=frozenset({"2026"}))
    pledges = {
        "east": speaking,
        "west": speaking,
        "north": Pledge(stamp="c", anchors=("2026", "2027"), signer="2027", released=frozenset({"2026"})),
        "south": Pledge(stamp="d", anchors=("2027",), signer="2027"),
    }
    [found] = blocks_replace_in_fleet("east", STEP, pledges, {"2026": ended(1).certificate}, NOW)
    assert str(found).startswith("west: its stack: its proxies may have certificates under 2026 until")
    assert blocks_replace_in_fleet("east", STEP, pledges, {"2026": ended(30).certificate}, NOW) == []
