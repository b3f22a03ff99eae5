"""Work that is done in a thread while the caller is busy with what came before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ahead(Generic[K, V]):
    """Values of a function, computed one after another before they are asked for.

    The caller names what it will ask for next; what it does not ask for is forgotten. Results do not
    depend on any of this.

    Args:
        read: the function; runs in one thread, in the order of requests.
    """

    def __init__(self, read: Callable[[K], V]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._known: dict[K, Future[V]] = {}

    def take(self, key: K, following: Iterable[K] = ()) -> V:
        """The value of a key; those of ``following`` are begun.

        Raises:
            Exception: what the function raises for this key.
        """
        wanted = [key, *following]
        for other in [k for k in self._known if k not in wanted]:
            self._known.pop(other).cancel()
        for other in wanted:
            if other not in self._known:
                self._known[other] = self._thread.submit(self._read, other)
        return self._known.pop(key).result()


def begun(items: Iterable[V]) -> Iterator[V]:
    """The same items, the next two made in a thread while one is used."""
    iterator = iter(items)

    def following(number: int) -> list[V]:
        del number
        return list(islice(iterator, 1))

    ahead = Ahead(following)
    for number in count():
        found = ahead.take(number, [number + 1, number + 2])
        if not found:
            return
        yield from found
