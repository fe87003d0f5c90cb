"""The timeline of a run: which of its bars are on the critical path."""

from benchmarks.timeline import Bar, draw_timeline, mark_critical


def bar(name, start, end, kind="resource"):
    return Bar(name=name, kind=kind, start=start, end=end)


def critical(*bars):
    return [marked.name for marked in mark_critical(bars) if marked.is_critical]


def test_the_path_goes_back_from_the_end_over_what_ended_last_before_each_bar_began():
    found = critical(
        bar("namespace", 0, 1), bar("short", 1, 3), bar("release", 1, 5), bar("pod", 5, 30, "pod"), bar("other", 2, 20)
    )
    assert found == ["namespace", "release", "pod"]


def test_work_beside_the_path_is_not_on_it():
    assert critical(bar("first", 0, 4), bar("beside", 0, 2), bar("last", 4, 9)) == ["first", "last"]


def test_a_picture_shows_each_bar_by_its_name():
    bars = mark_critical([bar("namespace", 0, 1), bar("identity", 1, 30, "pod")])
    drawn = draw_timeline([vars(each) for each in bars], "A run")
    assert "resource namespace" in drawn
    assert "pod identity" in drawn
    assert "A run" in drawn
