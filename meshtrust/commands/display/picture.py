"""The picture of a mesh's chain, as SVG: every root, what is signed under which, and who trusts what."""

from dataclasses import dataclass

import drawsvg
from cryptography import x509

from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import fingerprint
from meshtrust.stacks.inspection import Inspection

_WIDTH, _HEIGHT, _GAP, _MARGIN = 300, 84, 56, 28
_FONT = "system-ui, sans-serif"
_SIGNS, _TRUSTED, _WRONG = "#0b7285", "#868e96", "#c92a2a"


@dataclass(frozen=True)
class _Box:
    title: str
    lines: tuple[str, str]
    colour: str


def draw_chain(inspection: Inspection) -> str:
    """Return the picture as the text of an SVG file.

    Args:
        inspection: The mesh.
    """
    chain = list(reversed(inspection.issuer_chain))
    signing = fingerprint(chain[0]) if chain else ""
    roots = sorted(inspection.mesh.roots, key=lambda root: fingerprint(root) != signing)
    below = [*_links(inspection, chain), _proxies(inspection, signing)]
    columns = max(1, len(roots))
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP
    height = 2 * _MARGIN + (1 + len(below)) * (_HEIGHT + _GAP) - _GAP + 30
    picture = drawsvg.Drawing(width, height, font_family=_FONT)
    picture.append(drawsvg.Rectangle(0, 0, width, height, fill="white"))
    caption = f"{inspection.context}: {inspection.phase}"
    picture.append(drawsvg.Text(caption, 15, _MARGIN, _MARGIN + 4, fill="#212529", font_weight="bold"))
    top = _MARGIN + 30
    for column, root in enumerate(roots):
        signs = fingerprint(root) == signing
        box = _certificate(
            f"trust anchor {inspection.name(fingerprint(root))}" + ("" if signs else " (trusted)"), root, inspection
        )
        _draw(picture, box, _MARGIN + column * (_WIDTH + _GAP), top, dashed=not signs)
    for row, box in enumerate(below, start=1):
        y = top + row * (_HEIGHT + _GAP)
        middle = _MARGIN + _WIDTH / 2
        line = drawsvg.Line(middle, y - _GAP, middle, y - 9, stroke=box.colour, stroke_width=2)
        arrow = drawsvg.Lines(middle - 5, y - 10, middle + 5, y - 10, middle, y - 1, close=True, fill=box.colour)
        picture.extend([line, arrow])
        _draw(picture, box, _MARGIN, y)
    return str(picture.as_svg())


def _links(inspection: Inspection, chain: list[x509.Certificate]) -> list[_Box]:
    if not chain:
        issuer = inspection.mesh.issuer
        lines = ("chains to no root of the bundle" if issuer else "there is none in the Secret", "")
        return [_Box("identity issuer", lines, _WRONG)]
    below = chain[1:]
    if not below:
        return [_Box("identity issuer", ("the trust anchor itself", ""), _SIGNS)]
    titles = [*["intermediate"] * (len(below) - 1), "identity issuer"]
    return [_certificate(title, link, inspection) for title, link in zip(titles, below, strict=True)]


def _certificate(title: str, certificate: x509.Certificate, inspection: Inspection) -> _Box:
    left = certificate.not_valid_after_utc - inspection.now
    ended = left.total_seconds() <= 0
    life = "ended" if ended else f"{format_left(left)} left"
    return _Box(
        title,
        (
            f"sha256 {fingerprint(certificate)[:16]}",
            f"until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, {life}",
        ),
        _WRONG if ended else _SIGNS,
    )


def _proxies(inspection: Inspection, signing: str) -> _Box:
    lacking = sum(inspection.workloads_not_trusting(signing).values())
    total = len(inspection.mesh.pods)
    trust = f"{total - lacking} trust the anchor that signs"
    return _Box(f"{total} proxies", (trust, f"{lacking} do not" if lacking else ""), _WRONG if lacking else _SIGNS)


def _draw(picture: drawsvg.Drawing, box: _Box, x: float, y: float, *, dashed: bool = False) -> None:
    colour = _TRUSTED if dashed and box.colour == _SIGNS else box.colour
    frame = {"stroke_dasharray": "6 4"} if dashed else {}
    picture.append(
        drawsvg.Rectangle(x, y, _WIDTH, _HEIGHT, rx=8, fill="#f8f9fa", stroke=colour, stroke_width=2, **frame)
    )
    picture.append(drawsvg.Text(box.title, 15, x + 14, y + 26, fill=colour, font_weight="bold"))
    for number, line in enumerate(box.lines):
        picture.append(drawsvg.Text(line, 12, x + 14, y + 48 + 20 * number, fill="#495057"))
