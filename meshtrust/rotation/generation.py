"""Names of generations, and of whatever else a person names in a stack."""

import re
from collections.abc import Collection

from meshtrust.rotation.steps import IllegalStepError

# They become parts of the names of Kubernetes' objects, and of labels.
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
NAME_FORM = "lower-case letters, digits and hyphens (at most 32)"


def check_new(name: str, *, retired: Collection[str]) -> None:
    """Make sure that a generation may be introduced under a name, before it is written anywhere.

    Args:
        name: The name.
        retired: Generations that may not come back.

    Raises:
        IllegalStepError: It is no name, or that of a generation that was retired.
    """
    if not NAME.fullmatch(name):
        msg = f'"{name}" is no name of a generation. Use {NAME_FORM}, such as "2027"'
        raise IllegalStepError(msg)
    if name in retired:
        msg = f'generation "{name}" has been retired, and its key is gone. Use a name that was never used'
        raise IllegalStepError(msg)
