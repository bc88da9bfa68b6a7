import pytest

from worldflow.demos.timeline import Timeline


@pytest.fixture
def timeline():
    """Twelve steps with a mark every five: 0-4, 5-9, 10-11. A mark is the number of its step."""
    timeline = Timeline(every=5, keep=10)
    for step in range(12):
        if timeline.due:
            timeline.mark(step)
        timeline.add(step)
    return timeline


@pytest.mark.parametrize("count", range(13))
def test_any_step_is_reached_from_the_mark_before_it(timeline, count):
    mark, steps = timeline.back(count)
    assert [mark, *steps] == [mark, *range(mark, 12 - count)]
    assert len(steps) <= 5
    assert len(timeline) == 12 - count


def test_the_way_back_ends_at_the_oldest_mark(timeline):
    assert timeline.back(100) == (0, [])


def test_what_was_gone_back_over_is_forgotten(timeline):
    timeline.back(4)  # behind step 7
    timeline.add("other")
    assert timeline.back(0) == (5, [5, 6, 7, "other"])


def test_only_so_many_marks_are_kept():
    timeline = Timeline(every=2, keep=3)
    for step in range(100):
        if timeline.due:
            timeline.mark(step)
        timeline.add(step)
    assert len(timeline) == 6
    assert timeline.marks == [94, 96, 98]
    assert timeline.back(100) == (94, [])


def test_a_mark_where_no_step_was_taken_replaces_the_one_before(timeline):
    timeline.mark("a")
    timeline.mark("b")
    timeline.add(12)
    assert timeline.back(1) == ("b", [])
    assert timeline.back(1) == (10, [10])
