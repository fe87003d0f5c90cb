"""The picture of a rotation: its steps, which proxies trust what, and the handshakes meanwhile, over time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import drawsvg

_WIDTH, _MARGIN, _PODS, _HANDSHAKES = 860, 60, 180, 110
_FONT = "system-ui, sans-serif"
_COLOURS = ("#4dabf7", "#38d9a9", "#9775fa", "#ffa94d", "#f783ac")
# What the run that takes a step does: colour and label. It takes the step first.
_BANDS = {
    "steady": ("#f1f3f5", "steady"),
    "introduce": ("#e7f5ff", "introduce, then restart"),
    "switch": ("#e6fcf5", "switch, then restart"),
    "retire": ("#fff9db", "retire"),
}

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Sample:
    """The mesh at one moment.

    Attributes:
        seconds: Since the beginning.
        step: The step under way.
        succeeded: Handshakes that had succeeded by then.
        failed: Handshakes that had failed by then.
        pods: How many proxies trust which anchors, by what they are called together.
    """

    seconds: float
    step: str
    succeeded: int
    failed: int
    pods: Counter[str]


def draw_rotation(samples: list[Sample]) -> str:
    """Return the picture as the text of an SVG file.

    Args:
        samples: The mesh over time, two at least.
    """
    begin, end = samples[0].seconds, samples[-1].seconds
    height = 3 * _MARGIN + _PODS + _HANDSHAKES
    picture = drawsvg.Drawing(_WIDTH, height, font_family=_FONT)
    picture.append(drawsvg.Rectangle(0, 0, _WIDTH, height, fill="white"))

    def x(seconds: float) -> float:
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * (seconds - begin) / (end - begin)

    failed = samples[-1].failed - samples[0].failed
    total = samples[-1].succeeded - samples[0].succeeded
    title = f"A rotation under load: {total:,} handshakes, {failed:,} failed"
    picture.append(drawsvg.Text(title, 16, _MARGIN, 28, fill="#212529", font_weight="bold"))
    top = _MARGIN
    _draw_bands(picture, samples, x, top, _PODS + _MARGIN + _HANDSHAKES)
    _draw_pods(picture, samples, x, top)
    _draw_handshakes(picture, samples, x, top + _PODS + _MARGIN)
    for seconds in (begin, (begin + end) / 2, end):
        label = f"{seconds - begin:.0f} s"
        picture.append(drawsvg.Text(label, 11, x(seconds), height - 18, text_anchor="middle", fill="#495057"))
    return str(picture.as_svg())


def _draw_bands(picture: drawsvg.Drawing, samples: list[Sample], x: Scale, top: float, height: float) -> None:
    starts = [samples[0], *(later for earlier, later in pairwise(samples) if earlier.step != later.step)]
    ends = [*(sample.seconds for sample in starts[1:]), samples[-1].seconds]
    for start, end in zip(starts, ends, strict=True):
        left, right = x(start.seconds), x(end)
        fill, label = _BANDS.get(start.step, ("#f1f3f5", start.step))
        picture.append(drawsvg.Rectangle(left, top, right - left, height, fill=fill))
        picture.append(drawsvg.Text(label, 12, left + 4, top - 6, fill="#495057"))


def _draw_pods(picture: drawsvg.Drawing, samples: list[Sample], x: Scale, top: float) -> None:
    bundles = list(dict.fromkeys(bundle for sample in samples for bundle in sample.pods))
    most = max(sum(sample.pods.values()) for sample in samples) or 1
    scale = _PODS / most
    below = [0.0] * len(samples)
    for number, bundle in enumerate(bundles):
        above = [base + sample.pods[bundle] for base, sample in zip(below, samples, strict=True)]
        points: list[float] = []
        for sample, count in zip(samples, above, strict=True):
            points += [x(sample.seconds), top + _PODS - count * scale]
        for sample, count in zip(reversed(samples), reversed(below), strict=True):
            points += [x(sample.seconds), top + _PODS - count * scale]
        colour = _COLOURS[number % len(_COLOURS)]
        picture.append(drawsvg.Lines(*points, close=True, fill=colour, fill_opacity=0.75))
        legend = _MARGIN + number * 240
        picture.append(drawsvg.Rectangle(legend, top + _PODS + 14, 12, 12, fill=colour))
        text = f"proxies that trust {bundle}"
        picture.append(drawsvg.Text(text, 12, legend + 18, top + _PODS + 25, fill="#495057"))
        below = above
    picture.append(drawsvg.Text(f"{most} proxies", 11, 4, top + 10, fill="#495057"))


def _draw_handshakes(picture: drawsvg.Drawing, samples: list[Sample], x: Scale, top: float) -> None:
    rates = [
        (
            later.seconds,
            (later.succeeded - earlier.succeeded) / (later.seconds - earlier.seconds),
            (later.failed - earlier.failed) / (later.seconds - earlier.seconds),
        )
        for earlier, later in pairwise(samples)
    ]
    most = max((rate for _, rate, _ in rates), default=1) or 1
    for index, colour in ((1, "#1971c2"), (2, "#e03131")):
        points: list[float] = []
        for rate in rates:
            points += [x(rate[0]), top + _HANDSHAKES - rate[index] / most * (_HANDSHAKES - 10)]
        picture.append(drawsvg.Lines(*points, fill="none", stroke=colour, stroke_width=1.5))
    picture.append(drawsvg.Text(f"{most:.0f}/s", 11, 4, top + 10, fill="#495057"))
    for number, (text, colour) in enumerate((("handshakes per second", "#1971c2"), ("failed", "#e03131"))):
        left = _MARGIN + number * 180
        picture.append(drawsvg.Line(left, top + _HANDSHAKES + 14, left + 12, top + _HANDSHAKES + 14, stroke=colour))
        picture.append(drawsvg.Text(text, 12, left + 18, top + _HANDSHAKES + 18, fill="#495057"))
