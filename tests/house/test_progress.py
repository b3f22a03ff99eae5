"""Progress without a terminal: one line at every tenth of the way."""

import re

import pytest

from mrigen.progress import bar, counted, track


@pytest.fixture
def lines(capsys):
    """A function: what has been said since its last call, as (finished, total, seconds left, note)."""

    def said():
        shape = r"work: (\d+)/(\d+) it, \S+ it/s, (-?\d+) s left ?(.*)"
        return [
            (int(done), int(total), int(left), note)
            for done, total, left, note in re.findall(shape, capsys.readouterr().err)
        ]

    return said


def test_a_line_at_every_tenth(lines):
    assert list(track(range(40), "work", 40)) == list(range(40))
    assert [done for done, *_ in lines()] == list(range(4, 41, 4))


def test_the_last_batch_may_be_more_than_what_was_missing(lines, monkeypatch):
    clock = iter([0.0, 64.0, 128.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with bar("work", 100) as advance:
        assert sum(map(len, counted([range(64), range(64)], advance))) == 128
    assert [(done, left) for done, _, left, _ in lines()] == [(64, 36), (128, 0)]


def test_a_resumed_job_counts_what_was_done_and_measures_what_is_new(lines, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with bar("work", 100, done=80) as advance:
        advance(10, "half of it")
    assert lines() == [(90, 100, 10, "half of it")]


def test_only_the_first_process_tells(lines, monkeypatch):
    monkeypatch.setattr("mrigen.ranks.rank", lambda: 1)
    with bar("work", 2) as advance:
        advance(2)
    assert lines() == []
