"""Examples of tests: the same in every run, whatever else its process has done."""

import importlib
import sys

from hypothesis import given, settings
from hypothesis import strategies as st


def draw():
    drawn = []

    @given(st.integers(0, 1 << 16))
    @settings(max_examples=200)
    def collect(number):
        drawn.append(number)

    collect()
    return drawn


def test_examples_do_not_depend_on_which_modules_are_loaded(tmp_path, monkeypatch):
    before = draw()
    (tmp_path / "loaded_numbers.py").write_text("NUMBERS = (4242, 4243, 4244)\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("loaded_numbers")
    try:
        assert draw() == before
    finally:
        del sys.modules["loaded_numbers"]
