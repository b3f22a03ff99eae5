"""Reading ahead and writing behind in another thread, while a process computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Prefetcher(Generic[K, V]):
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
        keys = [key, *following]
        for other in [k for k in self._known if k not in keys]:
            self._known.pop(other).cancel()
        for other in keys:
            if other not in self._known:
                self._known[other] = self._thread.submit(self._read, other)
        return self._known.pop(key).result()


def prefetched(items: Iterable[V], depth: int = 1) -> Iterator[V]:
    """The same items; the next ``depth`` are made in another thread while the caller works on one."""
    source = iter(items)

    def take() -> list[V]:
        return list(islice(source, 1))

    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        coming = deque(thread.submit(take) for _ in range(depth))
        while item := coming.popleft().result():
            coming.append(thread.submit(take))
            yield item[0]
    finally:
        thread.shutdown(cancel_futures=True)


def on_host(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same tensors in this machine's memory; a GPU computes one while the one before it is copied."""
    copying: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def copied() -> Tensor:
        copy, done = copying.popleft()
        done.synchronize()
        return copy

    for batch in batches:
        if not batch.is_cuda:
            yield batch
            continue
        done = torch.cuda.Event()
        copying.append((batch.to("cpu", non_blocking=True), done))
        done.record(torch.cuda.current_stream(batch.device))
        if len(copying) > 1:
            yield copied()
    while copying:
        yield copied()


@contextmanager
def write_behind() -> Iterator[Callable[..., None]]:
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
