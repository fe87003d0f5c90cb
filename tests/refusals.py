"""Reader of refusals for tests."""

import re


def number_of(refusal: str) -> str:
    """The number by which an override answers a refusal of a step."""
    found = re.search(r'gate\.overrides\.[-a-z0-9]+ "([0-9a-f]{8}) <reason>"', " ".join(refusal.split()))
    assert found, refusal
    return found[1]


def acknowledge(refusal: str, reason: str) -> dict[str, dict[str, str]]:
    """Return meshtrust:gate.acknowledged after all commands of a refusal that acknowledge something."""
    command = r"""'gate\.acknowledged\.([-a-z0-9]+)\["([^"]+)"\]' "([0-9a-f]{8}) <how it was seen to>\""""
    found = re.findall(f"pulumi config set --path {command}", " ".join(refusal.split()))
    given: dict[str, dict[str, str]] = {}
    for step, subject, number in found:
        given.setdefault(step, {})[subject] = f"{number} {reason}"
    return given
