from datetime import timedelta

import pytest

from meshtrust.pki.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "length", "canonical"),
    [
        ("48h", timedelta(hours=48), "48h"),
        ("48h0m0s", timedelta(hours=48), "48h"),
        ("90m", timedelta(minutes=90), "1h30m"),
        ("1.5h", timedelta(minutes=90), "1h30m"),
        ("45s", timedelta(seconds=45), "45s"),
        ("0s", timedelta(), "0s"),
        ("1500ms", timedelta(seconds=1.5), "2s"),
        ("2000000us", timedelta(seconds=2), "2s"),
    ],
)
def test_a_go_duration_is_read_and_written(text, length, canonical):
    assert parse_duration(text) == length
    assert format_duration(length) == canonical


@pytest.mark.parametrize("text", ["", "48", "2d", "h", "48 h", "-1h", "1h30", "48hours", "٤٨h"])
def test_what_is_no_go_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a Go duration"):
        parse_duration(text)


def test_a_length_that_go_cannot_count_is_refused():
    assert parse_duration("2562047h")
    for text in ("2562048h", "9" * 400 + "h"):
        with pytest.raises(ValueError, match="longer than a Go duration can be"):
            parse_duration(text)
