"""Queues of objects with the shapes of the standard library's, over a ring; ``wigwag.stdlib`` has them."""

from __future__ import annotations

import collections
import os
import pickle
import queue
import struct
import time
import typing
from typing import Any, Deque, Dict, Generic, List, Optional, Tuple, TypeVar

from . import _wigwag
from ._locks import Shared, make

_T = TypeVar("_T")
Empty = queue.Empty
Full = queue.Full
_LENGTH = struct.Struct("<Q")


def _send(ring: _wigwag.Ring, item: object, timeout: Optional[float]) -> None:
    """A message is a pickle; behind it, where pickle does not look, come the buffers that it refers to, their lengths, and
    how many they are. The buffers are copied once, to where they are read from."""
    buffers: List[pickle.PickleBuffer] = []
    data = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
    if not buffers:
        ring.send(data, timeout)
        return
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    lengths = [len(part) for part in parts[1:]]
    parts.append(memoryview(struct.pack(f"<{len(lengths) + 1}Q", *lengths, len(lengths))))
    with ring.reserve(sum(map(len, parts)), timeout) as room, room.buf as view:
        at = 0
        for part in parts:
            view[at : at + len(part)] = part
            at += len(part)


def _received(message: _wigwag.RingBorrowed) -> typing.Any:
    """The object of a message, which nothing looks into afterwards. One that cannot be made is done with, as it never could;
    whatever else ends this, such as Ctrl-C, leaves the message to whoever gets next."""
    try:
        buffers = _buffers(message)
        try:
            return pickle.loads(message, buffers=buffers)
        finally:
            buffers.close()
    except Exception:
        message.release()
        raise
    except BaseException:
        message.give_back()
        raise


def _buffers(message: _wigwag.RingBorrowed) -> typing.Generator[bytearray, None, None]:
    """Copies of the buffers behind a pickle; looked for only if it refers to any."""
    with message.buf as view:
        end = len(view) - _LENGTH.size
        (count,) = _LENGTH.unpack_from(view, end)
        end -= count * _LENGTH.size
        if end < 0:
            raise pickle.UnpicklingError("the buffers of the message are missing")
        lengths = struct.unpack_from(f"<{count}Q", view, end)
        at = end - sum(lengths)
        if at < 0:
            raise pickle.UnpicklingError("the buffers of the message are missing")
        for length in lengths:
            yield bytearray(view[at : at + length])
            at += length


class SimpleQueue(Shared, Generic[_T]):
    """``queue.SimpleQueue`` of any picklable objects for threads of any processes.

    Its memory is taken when it is made: room for 256 objects of up to ``largest`` bytes (16 KiB by default) each, as they
    are pickled, with protocol 5, where large buffers such as NumPy arrays are copied once and not twice. So ``put`` waits
    while it is full, and raises OSError (EMSGSIZE) for what is larger. An object that was put is not lost by any death; one
    that a process was just getting when it died is got by another.

    Who may open it can have others run any code, as with all pickles. ``name`` opens ``ring:NAME``, or makes it; without one
    it is for children, by fork or handed to ``multiprocessing.Process``.
    """

    _default = 256

    def __init__(self, *, largest: int = 0, name: Optional[str] = None) -> None:
        self._open(0, largest, name)

    def _open(self, maxsize: int, largest: int, name: Optional[str]) -> None:
        largest = largest or 16384
        slots = 1 << (max(maxsize if maxsize > 0 else self._default, 2) - 1).bit_length()
        self._ring: _wigwag.Ring = make(_wigwag.Ring, name, 0, largest, depth=slots, persistent=True)
        self._room: int = self._ring.statistics().slots

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._ring,)

    def put(self, item: _T, block: bool = True, timeout: Optional[float] = None) -> None:
        """Put an object in; waits while it is full. Raises queue.Full: not in time, or at once with ``block=False``."""
        try:
            _send(self._ring, item, timeout if block else 0)
        except (BlockingIOError, TimeoutError) as error:
            raise Full from error

    def get(self, block: bool = True, timeout: Optional[float] = None) -> _T:
        """Take the oldest object out; waits while there is none. Raises queue.Empty: not in time, or at once with
        ``block=False``."""
        message = self._borrow(timeout if block else 0)
        item = _received(message)
        message.release()
        return typing.cast(_T, item)

    def _borrow(self, timeout: Optional[float]) -> _wigwag.RingBorrowed:
        try:
            return self._ring.borrow(timeout)
        except (BlockingIOError, TimeoutError) as error:
            raise Empty from error

    def put_nowait(self, item: _T) -> None:
        """As put, without waiting."""
        self.put(item, False)

    def get_nowait(self) -> _T:
        """As get, without waiting."""
        return self.get(False)

    def qsize(self) -> int:
        """How many objects are in it."""
        return self._ring.statistics().queued

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return self.qsize() == 0


class Queue(SimpleQueue[_T]):
    """``queue.Queue`` and ``multiprocessing.Queue`` of any picklable objects for threads of any processes; see SimpleQueue.

    ``maxsize`` objects have room, rounded up to a power of two from 2 on; 0 is for 256 of them. There is no thread behind
    it: what ``put`` has returned from is in it. ``task_done`` and ``join`` are JoinableQueue's.
    """

    def __init__(self, maxsize: int = 0, *, largest: int = 0, name: Optional[str] = None) -> None:
        self._open(maxsize, largest, name)

    @property
    def maxsize(self) -> int:
        """How many objects have room."""
        return self._room

    def full(self) -> bool:
        """Whether a put would have to wait."""
        seen = self._ring.statistics()
        return seen.queued + seen.borrowed >= self._room

    def join_thread(self) -> None:
        """Nothing: what was put is in it already. For programs that were written for multiprocessing.Queue."""

    def cancel_join_thread(self) -> None:
        """Nothing, as join_thread."""


class JoinableQueue(Queue[_T]):
    """``multiprocessing.JoinableQueue``: a Queue that knows when all that was put has been done.

    An object that was got stays this process's until ``task_done``, in the order in which they were got; when the process
    dies before, another gets it. So ``task_done`` is for the process that got it (ValueError elsewhere), and objects that
    are not done take up room. ``name`` also opens ``mutex:NAME`` and ``condition:NAME``, by which ``join`` waits.
    """

    def __init__(self, maxsize: int = 0, *, largest: int = 0, name: Optional[str] = None) -> None:
        self._open(maxsize, largest, name)
        self._mutex: _wigwag.Mutex = make(_wigwag.Mutex, name)
        self._all_done: _wigwag.Condition = make(_wigwag.Condition, name, self._mutex)
        self._forget()

    def _forget(self) -> None:
        self._taken: Deque[_wigwag.RingBorrowed] = collections.deque()
        self._pid = os.getpid()

    def _own(self) -> Deque[_wigwag.RingBorrowed]:
        if self._pid != os.getpid():
            self._forget()  # in a child: what was got stays the parent's
        return self._taken

    def __getstate__(self) -> Dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_taken", "_pid")}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._ring, self._all_done, self._mutex)

    def get(self, block: bool = True, timeout: Optional[float] = None) -> _T:
        """As Queue.get; the object has to be done, and ``task_done`` called, by this process."""
        message = self._borrow(timeout if block else 0)
        try:
            item = _received(message)
        except Exception:
            self._tell_if_done()
            raise
        self._own().append(message)
        return typing.cast(_T, item)

    def task_done(self) -> None:
        """Say that the object that was got first is done. Raises ValueError: this process has none left."""
        try:
            message = self._own().popleft()
        except IndexError:
            raise ValueError("task_done() called too many times") from None
        self._done(message)

    def _done(self, message: _wigwag.RingBorrowed) -> None:
        message.release()
        self._tell_if_done()

    def _tell_if_done(self) -> None:
        if not self._unfinished():
            with self._mutex:
                self._all_done.notify_all()

    def _unfinished(self) -> bool:
        # The places are looked at one after the other: an object that was put into one already seen, by who then was done with
        # another, would be missed. Unless nothing was sent between two looks that both find nothing.
        sent = None
        while True:
            seen = self._ring.statistics()
            if seen.queued + seen.borrowed:
                return True
            if seen.sent == sent:
                return False
            sent = seen.sent

    def join(self, timeout: Optional[float] = None) -> None:
        """Wait until all that was put has been done. Raises TimeoutError."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._mutex:
            while self._unfinished():
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("what was put has not been done in time")
                # Whoever did the last may have died before it could say so.
                self._all_done.wait(1.0 if left is None else min(left, 1.0))

    def close(self) -> None:
        """Let go of it. What this process has got and not done is got by another. Closing twice is fine."""
        self._own().clear()
        super().close()
