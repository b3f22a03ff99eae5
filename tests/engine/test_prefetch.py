"""Reading ahead and writing behind: order, errors, one item at a time."""

import threading

import pytest

from mrigen.prefetch import prefetched, write_behind


def test_the_next_item_is_made_while_one_is_worked_on():
    """Item 1 is finished only once the caller holds item 0; item 2 is not begun before item 1 is taken."""
    held, begun = threading.Event(), []

    def items():
        for number in range(3):
            begun.append(number)
            if number == 1:
                assert held.wait(60)
            yield number

    found = prefetched(items())
    assert next(found) == 0
    assert 2 not in begun
    held.set()
    assert list(found) == [1, 2]
    assert begun == [0, 1, 2]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("gone")

    found = prefetched(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_calls_run_in_order_beside_the_caller():
    calls, go = [], threading.Event()

    def call(number):
        assert go.wait(60)
        calls.append((number, threading.current_thread() is threading.main_thread()))

    with write_behind() as later:
        later(call, 0)
        assert not calls
        go.set()
        later(call, 1)
        assert calls[0] == (0, False)
    assert calls == [(0, False), (1, False)]


def test_an_error_of_a_call_is_raised():
    def fail():
        raise OSError("full")

    def twice():
        with write_behind() as later:
            later(fail)
            later(reached.append, 1)

    reached = []
    with pytest.raises(OSError, match="full"), write_behind() as later:
        later(fail)
    with pytest.raises(OSError, match="full"):
        twice()
    assert not reached
