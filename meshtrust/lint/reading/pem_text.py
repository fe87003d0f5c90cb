"""PEM text block by block, as Go, and so Linkerd, reads bundles, chains and keys."""

import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshtrust.lint.facts import CertificateFacts, certificate_facts
from meshtrust.pki.pem import PemError, read_certificate

_BEGIN, _END, _DASHES = "-----BEGIN ", "-----END ", "-----"
BYTE_ORDER_MARK = "\ufeff"
# The base64 of "-----BEGIN", and of what every certificate's DER begins with.
_ENCODED_BEGIN, _ENCODED_DER = "LS0tLS1CRUdJT", ("MII", "MIG")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One PEM block.

    Attributes:
        label: Its label after BEGIN, such as CERTIFICATE.
        der: Its content; nothing prints it, as it may be a key.
        line: The line of its BEGIN within the text, from 0.
    """

    label: str
    der: bytes
    line: int

    def __str__(self) -> str:
        """Return its name; a label that is not one, and may be key material, is left out."""
        return f"a block {self.label}" if re.fullmatch(r"[A-Z0-9 .-]{1,40}", self.label) else "a block without a label"


@dataclass(frozen=True, kw_only=True)
class PemText:
    """A text of PEM blocks.

    Attributes:
        blocks: The blocks that Go finds, in their order.
        certificates: Those that Linkerd reads: all certificates up to the first block that is not one.
        unreadable: Those that claim to be certificates and cannot be read, with the reason.
        lost: BEGIN lines that Go does not take for the beginning of a block, each with the reason; None if Linkerd
            does not look.
        rest_line: The line, from 0, where text follows the last block; None if nothing does, or Linkerd does not look.
        shape: A predicate about a text without any block, and the way to make PEM of it; None if there is a block.
    """

    blocks: tuple[Block, ...]
    certificates: tuple[tuple[Block, CertificateFacts], ...]
    unreadable: tuple[tuple[Block, str], ...]
    lost: tuple[tuple[int, str], ...]
    rest_line: int | None
    shape: tuple[str, str] | None


def read_pem(text: str) -> PemText:
    """Return the blocks of a text.

    Source: ``Decode`` of Go's ``encoding/pem``, called repeatedly on the rest, as linkerd2
    ``pkg/tls/codec.go`` does: a block begins and ends at the start of a line, unreadable parts are skipped, and
    after a block only the rest of its last line belongs to it. Linkerd stops reading at the first block that is not a
    certificate.
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
    certificates, unreadable, last_line = [], [], None
    for block in blocks:
        if block.label != "CERTIFICATE":
            last_line = block.line
            break
        try:
            certificates.append((block, certificate_facts(read_certificate(block.der))))
        except PemError:
            # The parser's own words do not help a reader.
            what = "it is empty" if not block.der else "it is cut off, altered, or not an X.509 certificate"
            unreadable.append((block, what))
    return PemText(
        blocks=tuple(blocks),
        certificates=tuple(certificates),
        unreadable=tuple(unreadable),
        lost=tuple(one for one in _lost(text, blocks) if last_line is None or one[0] < last_line),
        rest_line=rest if last_line is None else None,
        shape=None if blocks else _shape(text),
    )


def _lost(text: str, blocks: Sequence[Block]) -> list[tuple[int, str]]:
    """Return the BEGIN lines that are not those of the blocks that were read, each with the reason."""
    found, read = [], {block.line for block in blocks}
    for match in re.finditer(_BEGIN, text):
        line = text.count("\n", 0, match.start())
        if line not in read:
            found.append((line, _why_lost(text, match.start())))
    return found


def _why_lost(text: str, begin: int) -> str:
    before = text[text.rfind("\n", 0, begin) + 1 : begin]
    if before == BYTE_ORDER_MARK:
        return "stands behind a byte order mark"
    if before:
        return "is indented" if not before.strip() else "does not stand at the start of its line"
    label = _line(text, begin).removeprefix(_BEGIN)
    if not label.endswith(_DASHES):
        return "does not end with five dashes"
    end = text.find("\n" + _END, begin)
    following = text.find("\n" + _BEGIN, begin + 1)
    if end < 0 or 0 <= following < end:
        indented = re.search(r"\n[ \t]+-----END ", text[begin : following if following > 0 else None])
        return "has an END line that is indented" if indented else "has no END line"
    if _line(text, end + 1) != f"{_END}{label}":
        return "has an END line of another name"
    return "is followed by text that is not base64"


_PLAIN_FIX = "Write it as PEM, from the BEGIN line to the END line, each at the start of its line"


def _shape(text: str) -> tuple[str, str]:
    """Return a predicate about a text without any block, and the way to make PEM of it."""
    for is_it, what, fix in _SHAPES:
        if is_it(text):
            return what, fix
    if _BEGIN in text:
        return f"has a BEGIN line that {_why_lost(text, text.index(_BEGIN))}", _PLAIN_FIX
    return "holds no PEM", _PLAIN_FIX


def _is_bare_base64(text: str) -> bool:
    return text.strip().startswith(_ENCODED_DER) and _BASE64.fullmatch(text) is not None


# Texts that people write in place of PEM, and the way to make PEM of each; the first match counts.
_SHAPES: tuple[tuple[Callable[[str], bool], str, str], ...] = (
    (lambda text: not text, "is empty", _PLAIN_FIX),
    (lambda text: not text.strip(), "is blank", _PLAIN_FIX),
    (
        lambda text: text.startswith(BYTE_ORDER_MARK),
        "begins with a UTF-8 byte order mark, behind which Go finds no BEGIN line",
        "Save it as UTF-8 without a byte order mark",
    ),
    (lambda text: "B\0E\0G\0I\0N" in text, "is UTF-16", "Save it as UTF-8 without a byte order mark"),
    (
        lambda text: text[:2] in ("0\x82", "0\ufffd"),
        "is DER, not PEM",
        "Turn it into PEM: openssl x509 -inform der",
    ),
    (
        lambda text: "".join(text.split()).startswith(_ENCODED_BEGIN),
        "is base64 of PEM, encoded once too often",
        "Write the PEM itself: decode once with base64 -d",
    ),
    (
        _is_bare_base64,
        "is base64 without BEGIN and END lines",
        "Put the line -----BEGIN CERTIFICATE----- before it, and -----END CERTIFICATE----- after it",
    ),
    (
        lambda text: _BEGIN in text and "\\n" in text,
        "has its line breaks written out as \\n",
        'Write real line breaks, or the text in double quotes ("…")',
    ),
    (
        lambda text: _BEGIN in text and "\r" in text and "\n" not in text,
        "has only CR as line ends",
        "Save it with line ends of LF",
    ),
    (
        lambda text: _BEGIN in text and "\n" not in text.strip(),
        "has its whole PEM in one line",
        "Keep its line breaks: YAML keeps them in a text after |, and joins the lines after >",
    ),
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
    except (binascii.Error, ValueError):
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
