"""PEM text block by block, as Go reads it: what Linkerd makes of a bundle, a chain or a key."""

import binascii
import re
from dataclasses import dataclass

from meshtrust.lint.facts import CertificateFacts, certificate_facts
from meshtrust.pem import PemError, read_certificate

_BEGIN, _END, _DASHES = "-----BEGIN ", "-----END ", "-----"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One PEM block.

    Attributes:
        label: What stands after BEGIN, such as CERTIFICATE.
        der: Its content; nothing prints it, as it may be a key.
        line: The line of its BEGIN within the text, from 0.
    """

    label: str
    der: bytes
    line: int

    def __str__(self) -> str:
        """Return what it is called, unless the label is no label at all but something that must not be shown."""
        return f"a block {self.label}" if re.fullmatch(r"[A-Z0-9 .-]{1,40}", self.label) else "a block without a label"


@dataclass(frozen=True, kw_only=True)
class PemText:
    """A text of PEM blocks.

    Attributes:
        blocks: The blocks that Go finds, in their order.
        certificates: Those that are certificates, with what they say.
        unreadable: Those that claim to be certificates and cannot be read, with the reason.
        begun: How many BEGIN lines there are in all; Go passes over those that it cannot read.
        rest_line: The line, from 0, where text follows the last block; none where nothing does.
    """

    blocks: tuple[Block, ...]
    certificates: tuple[tuple[Block, CertificateFacts], ...]
    unreadable: tuple[tuple[Block, str], ...]
    begun: int
    rest_line: int | None


def read_pem(text: str) -> PemText:
    """Return the blocks of a text.

    Source: ``Decode`` of Go's ``encoding/pem``, called again and again on what it leaves over, as linkerd2
    ``pkg/tls/codec.go`` does: a block begins and ends at the start of a line, what cannot be read is passed over, and
    of what follows a block only the rest of its last line belongs to it.
    """
    blocks: list[Block] = []
    position = 0
    while position < len(text):
        found = _next_block(text, position)
        if found is None:
            break
        block, position = found
        blocks.append(block)
    rest = text.count("\n", 0, position) if position < len(text) else None
    certificates, unreadable = [], []
    for block in blocks:
        if block.label == "CERTIFICATE":
            try:
                certificates.append((block, certificate_facts(read_certificate(block.der))))
            except PemError as error:
                unreadable.append((block, str(error)))
    return PemText(
        blocks=tuple(blocks),
        certificates=tuple(certificates),
        unreadable=tuple(unreadable),
        begun=text.count(_BEGIN),
        rest_line=rest,
    )


def _next_block(text: str, position: int) -> tuple[Block, int] | None:
    """Return the next block from a position on, and the position after it."""
    while (end := text.find("\n" + _END, position) + 1) > 0:
        begin = text.rfind(_BEGIN, position, end)
        if begin == position or (begin > position and text[begin - 1] == "\n"):
            block = _read_block(text, begin, end)
            if block is not None:
                return block, _line_end(text, end)
        position = end + len(_END)
    return None


def _read_block(text: str, begin: int, end: int) -> Block | None:
    body = _line_end(text, begin)
    head = _line(text, begin).removeprefix(_BEGIN)
    if not head.endswith(_DASHES):
        return None
    label = head.removesuffix(_DASHES)
    if _line(text, end) != f"{_END}{label}{_DASHES}":
        return None
    headers = False
    while body < end and ":" in _line(text, body):
        headers, body = True, _line_end(text, body)
    if headers and body == end:
        return None
    encoded = re.sub(r"[ \t\r\n]", "", text[body:end])
    # Python passes over padding that Go does not.
    if len(encoded) % 4 or encoded.endswith("==="):
        return None
    try:
        der = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        return None
    return Block(label=label, der=der, line=text.count("\n", 0, begin))


def _line_end(text: str, start: int) -> int:
    """Return the position after the line that a position stands in."""
    newline = text.find("\n", start)
    return len(text) if newline < 0 else newline + 1


def _line(text: str, start: int) -> str:
    """Return a line from a position on, without what Go trims of it."""
    line = text[start : _line_end(text, start)]
    return line.removesuffix("\r\n").removesuffix("\n").rstrip(" \t")
