"""Reading ahead and writing behind, so that a process computes while its disk works.

Each is one thread and one item: memory does not grow, and results come in the order of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items; the next one is made in another thread while the caller works on one."""
    source = iter(items)

    def take() -> list[T]:
        return list(islice(source, 1))

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(take)
        while item := coming.result():
            coming = thread.submit(take)
            yield item[0]


@contextmanager
def behind() -> Iterator[Callable[..., None]]:
    """A function that calls another one in another thread, after the calls before it.

    It waits until the last call but one has ended. At the end of the block all have ended; what a call
    raised is raised at the next one or there.
    """
    running: list[Future[Any]] = []

    def wait() -> None:
        while running:
            running.pop().result()

    with ThreadPoolExecutor(1) as thread:

        def call(function: Callable[..., Any], *arguments: Any) -> None:
            wait()
            running.append(thread.submit(function, *arguments))

        yield call
        wait()
