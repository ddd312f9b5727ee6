"""How a pool's map goes through its results."""

from __future__ import annotations

import collections
import itertools
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple

from ._pool_future import TaskFuture


def run_chunk(fn: Callable[..., Any], chunk: List[Tuple[Any, ...]]) -> List[Any]:
    return [fn(*args) for args in chunk]


def in_order(futures: Iterator[TaskFuture], end: Optional[float], ahead: Optional[int]) -> Iterator[Any]:
    waiting = collections.deque(futures if ahead is None else itertools.islice(futures, ahead))
    return _results(waiting, futures, end)


def _results(waiting: Deque[TaskFuture], more: Iterator[TaskFuture], end: Optional[float]) -> Iterator[Any]:
    try:
        while waiting:
            future = waiting.popleft()
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                result = future.result(left)
            except FutureTimeoutError:
                future.cancel()
                raise
            waiting.extend(itertools.islice(more, 1))
            del future
            yield result
    finally:
        for future in waiting:
            future.cancel()
