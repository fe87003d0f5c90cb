"""What a test reads of a refusal."""

import re


def number_of(refusal: str) -> str:
    """The number by which an override answers a refusal of a step."""
    found = re.search(r'gate\.overrides\.[-a-z0-9]+ "([0-9a-f]{8}) <reason>"', " ".join(refusal.split()))
    assert found, refusal
    return found[1]
