"""What every ``<verb>_async`` twin does: try, and if that would block, await readiness in the running event loop.

No threads, but where no descriptor tells: a wait is an entry of the loop's own selector. Several tasks may wait for one
descriptor; ``add_reader`` silently replaces what was there, so each (loop, descriptor, direction) has one entry, with a
queue of tasks behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import typing  # Any by its full name: on Python 3.9 mypy.stubtest takes the bare one for a class
from typing import Awaitable, Callable, Dict, List, Optional, Tuple, TypeVar

from ._wigwag import Cancel, ChannelMessage

_T = TypeVar("_T")
_Options = Optional[Dict[str, typing.Any]]
_Key = Tuple[asyncio.AbstractEventLoop, int, bool]

# Touched by the loop's own thread only, per key; `closing` reads the keys from any thread.
_queues: Dict[_Key, List["asyncio.Future[bool]"]] = {}

# At the deadline the object is asked once more, so that its own TimeoutError, with its own text, is what comes out.
_LAST_TRY = 1e-9


async def call_when_ready(
    method: Callable[..., _T], fileno: Callable[[], int], writable: bool, timeout: Optional[float], *args: typing.Any
) -> _T:
    """``method(*args, timeout=timeout)`` for event loops: tries without blocking, awaits readiness in between.

    ``fileno`` (such as ``obj.fileno``) gives the descriptor that says when to try again, and is asked only when the
    first try would block. ``writable`` says which readiness to await. ``method`` must do all or nothing.

    Raises what ``method`` raises: ``TimeoutError`` at the deadline, ``BlockingIOError`` with a timeout of 0,
    ``ValueError`` if the object is closed meanwhile. A cancelled task leaves the queue, and has taken nothing.
    """
    if timeout is not None and not timeout > 0:  # 0, and what only the method can judge: negative, NaN
        return method(*args, timeout=timeout)
    deadline: Optional[float] = None
    while True:
        try:
            return method(*args, timeout=0)
        except BlockingIOError as error:
            if getattr(error, "characters_written", 0):
                raise  # not all or nothing after all: the caller has to know, and trying again would repeat a part
        loop = asyncio.get_running_loop()
        if timeout is not None and deadline is None:
            deadline = loop.time() + timeout
        if not await _readiness(loop, fileno(), writable, deadline):
            return method(*args, timeout=_LAST_TRY)


def closing(fd: int) -> None:
    """Lets go of a descriptor in every loop, and has the tasks that wait for it try again.

    An object's ``close()`` calls it from any thread, after it has marked itself closed and before the descriptor goes:
    a descriptor that is closed while a selector holds it is never reported again, and its number may come back as
    something else.
    """
    for key in list(_queues):
        loop, of, _ = key
        if of != fd:
            continue
        if _is_running_here(loop):
            _dissolve(key)
        else:
            try:
                loop.call_soon_threadsafe(_dissolve, key)
            except RuntimeError:  # the loop is closed, and nobody waits in it any more
                _queues.pop(key, None)


async def _readiness(
    loop: asyncio.AbstractEventLoop, fd: int, writable: bool, deadline: Optional[float]
) -> bool:
    """True when it is worth trying again, False at the deadline."""
    key = (loop, fd, writable)
    ready: "asyncio.Future[bool]" = loop.create_future()
    alarm = None if deadline is None else loop.call_at(deadline, _resolve, ready, False)
    try:
        _join(key, ready)
        return await ready
    finally:
        if alarm is not None:
            alarm.cancel()
        _leave(key, ready)


def _join(key: _Key, ready: "asyncio.Future[bool]") -> None:
    queue = _queues.get(key)
    if queue is not None:
        queue.append(ready)
        return
    loop, fd, writable = key
    (loop.add_writer if writable else loop.add_reader)(fd, _wake_first, key)
    _queues[key] = [ready]


def _leave(key: _Key, ready: "asyncio.Future[bool]") -> None:
    queue = _queues.get(key, [])
    if ready in queue:  # not in it any more: the queue was dissolved, and a new one may have its key
        queue.remove(ready)
        if not queue:
            del _queues[key]
            _unwatch(key)


def _wake_first(key: _Key) -> None:
    """Level-triggered: called again in the next round while the descriptor stays ready, which wakes the next task."""
    for ready in _queues.get(key, ()):
        if not ready.done():
            ready.set_result(True)
            return


def _dissolve(key: _Key) -> None:
    queue = _queues.pop(key, None)
    if queue is not None:
        _unwatch(key)
        for ready in queue:
            _resolve(ready, True)


def _unwatch(key: _Key) -> None:
    loop, fd, writable = key
    if not loop.is_closed():
        (loop.remove_writer if writable else loop.remove_reader)(fd)


def _resolve(ready: "asyncio.Future[bool]", value: bool) -> None:
    if not ready.done():
        ready.set_result(value)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def whether_in_time(taking: Awaitable[None]) -> bool:
    """True if it was done, False if it was not in time: the shape of ``acquire``."""
    try:
        await taking
    except (BlockingIOError, TimeoutError):
        return False
    return True


async def write_all_when_ready(
    obj: typing.Any, data: typing.Any, timeout: Optional[float], method: str = "write_all"
) -> None:
    """``obj.write_all(data)`` for event loops; on an exception, its ``done`` is how many bytes were written."""
    view = memoryview(data).cast("B")
    done = 0
    deadline = _deadline(timeout)
    while True:
        try:
            getattr(obj, method)(view[done:], timeout=_now(timeout))
            return
        except OSError as error:
            done += error.done  # type: ignore[attr-defined]
            error.done = done  # type: ignore[attr-defined]
            if not isinstance(error, BlockingIOError) or _now(timeout) == timeout:
                raise
        loop = asyncio.get_running_loop()
        if not await _readiness(loop, obj.fileno(), True, deadline):
            timeout = _LAST_TRY


async def read_exact_when_ready(
    obj: typing.Any, size: int, timeout: Optional[float], method: str = "read_exact"
) -> bytes:
    """``obj.read_exact(size)`` for event loops; on an exception, its ``partial`` is what had come by then."""
    parts: List[bytes] = []
    deadline = _deadline(timeout)
    while True:
        try:
            parts.append(getattr(obj, method)(size, timeout=_now(timeout)))
            return b"".join(parts)
        except OSError as error:
            parts.append(error.partial)  # type: ignore[attr-defined]
            size -= len(parts[-1])
            if not isinstance(error, BlockingIOError) or _now(timeout) == timeout:
                error.partial = b"".join(parts)  # type: ignore[attr-defined]
                error.done = len(error.partial)  # type: ignore[attr-defined]
                raise
        loop = asyncio.get_running_loop()
        if not await _readiness(loop, obj.fileno(), False, deadline):
            timeout = _LAST_TRY


async def call_in_thread(
    method: Callable[..., _T],
    args: Tuple[typing.Any, ...],
    timeout: Optional[float],
    options: _Options,
    give_back: Optional[Callable[[_T], object]] = None,
) -> _T:
    """``method(*args, timeout=timeout, **options)`` on a thread of its own: for calls that wait for what no descriptor tells.
    A cancelled task ends the call first, so that nothing happens after it; ``give_back`` gets what it had taken by then.
    """
    # Not the loop's executor: its threads are few, and those who wait on them may wait for who needs one to go on.
    loop = asyncio.get_running_loop()
    future: "asyncio.Future[_T]" = loop.create_future()
    cancel = Cancel()

    def call() -> None:
        try:
            with cancel:
                _tell(loop, future, future.set_result, method(*args, timeout=timeout, **(options or {})), give_back)
        except BaseException as error:
            _tell(loop, future, future.set_exception, error)

    threading.Thread(target=call, name="wigwag-call", daemon=True).start()
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        cancel.fire()
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # again: the call is about to end
                await asyncio.wait([future])
        if future.exception() is None and give_back is not None:  # looked at, so that nobody is told that nobody did
            give_back(future.result())
        del future  # what it took all the same goes back now, and not when the exception is forgotten
        raise
    except BaseException:  # the loop has ended without its tasks
        cancel.fire()
        future.cancel()
        raise
    try:
        return future.result()
    finally:
        del future  # which an exception's traceback leads to


async def data_of(receiving: Awaitable[ChannelMessage]) -> bytes:
    return (await receiving).data


async def try_then_call_in_thread(
    method: Callable[..., _T], args: Tuple[typing.Any, ...], timeout: Optional[float], options: _Options
) -> _T:
    """As call_in_thread, for a ``method`` that with a timeout of 0 never blocks and does all or nothing: only for a wait."""
    if timeout is None or timeout > 0:
        with contextlib.suppress(BlockingIOError):
            return method(*args, timeout=0, **(options or {}))
        return await call_in_thread(method, args, timeout, options)
    return method(*args, timeout=timeout, **(options or {}))


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[typing.Any]",
    end: Callable[[_T], None],
    what: _T,
    give_back: Optional[Callable[[_T], object]] = None,
) -> None:
    """Ends a future of a loop from another thread; ``give_back`` gets what nobody waits for any more."""

    def told() -> None:
        if not future.done():
            end(what)
        elif give_back is not None:
            give_back(what)

    try:
        loop.call_soon_threadsafe(told)
    except RuntimeError:  # the loop is closed, and nobody waits in it any more
        if give_back is not None:
            give_back(what)


def _deadline(timeout: Optional[float]) -> Optional[float]:
    return asyncio.get_running_loop().time() + timeout if timeout else None


def _now(timeout: Optional[float]) -> Optional[float]:
    """What to try with: 0 while there is time to wait; 0, the last try, and what only the object can judge as given."""
    return 0 if timeout is None or timeout > _LAST_TRY else timeout
