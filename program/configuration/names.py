"""Names that people choose, of which one signs: generations of the trust anchor, authorities of the webhooks."""

from meshtrust.rotation.generation import NAME, NAME_FORM
from program.configuration.reader import Reader


def read_names(reader: Reader, key: str, example: str) -> tuple[str, ...]:
    """Return names, each of them once; none where they cannot be used."""
    # What the CLI sets by --path becomes a number where it looks like one: the name is what is written.
    value = [str(entry) if type(entry) is int else entry for entry in reader.listing(key, f'["{example}"]')]
    for entry in value:
        if not isinstance(entry, str) or not NAME.fullmatch(entry):
            reader.refuse(key, f"holds {entry!r}, which is no name", f'Use {NAME_FORM}, such as "{example}"')
            return ()
    if len(set(value)) != len(value):
        reader.refuse(key, f"is {value}, which names one twice", "Name each once")
    return tuple(dict.fromkeys(value))


def choose_signer(reader: Reader, key: str, signer: str, of: str, names: tuple[str, ...]) -> str:
    """Return the one that signs: the one that is named, or the only one there is."""
    if not signer and len(names) == 1:
        return names[0]
    if names and signer not in names:
        known = ", ".join(names)
        if signer:
            reader.refuse(
                key,
                f"is {reader.quoted(key, signer)}, which is not one of {reader.full_name(of)} ({known})",
                f"Name one of {known}",
            )
        else:
            reader.refuse(
                key, f"is not set, and there are several in {reader.full_name(of)} ({known})", "Name the one that signs"
            )
    return signer
