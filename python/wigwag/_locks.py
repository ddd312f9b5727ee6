"""Locks with the shapes of ``threading``'s, over shared memory; ``wigwag.stdlib`` has them."""

from __future__ import annotations

import errno
import threading
import typing
from typing import Callable, Optional, Tuple, TypeVar, Union

from . import _wigwag

_T = TypeVar("_T")
BrokenBarrierError = threading.BrokenBarrierError


def make(kind: typing.Any, name: Optional[str], *arguments: typing.Any, **options: typing.Any) -> typing.Any:
    """An object of this class without a name, or the one of this name."""
    if name is None:
        return kind.anonymous(*arguments, **options)
    return kind.open(f"{kind.__name__.lower()}:{name}", *arguments, **options)


class Shared:
    """What all shapes have: they are made of objects in shared memory, and pickle as those."""

    def _parts(self) -> Tuple[typing.Any, ...]:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it; threads that wait get OSError with errno ECANCELED. Others go on using it. Closing twice is fine."""
        for part in self._parts():
            part.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return all(part.closed for part in self._parts())

    def unlink(self) -> None:
        """Remove the name; those who have it open go on using it. Nothing is done for one without a name."""
        for part in self._parts():
            if not part.address.endswith(":"):
                type(part).remove(part.address)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<wigwag.stdlib.{name} {'closed' if self.closed else self._parts()[0].address}>"


def _seconds(blocking: bool, timeout: Optional[float], complaint: str) -> Optional[float]:
    """The timeout of an ``acquire``: -1 is for ever, as for threading's locks."""
    if timeout is None or timeout == -1:
        return None
    if not blocking:
        raise ValueError(complaint)
    if not timeout >= 0:
        raise ValueError("timeout value must be a non-negative number")
    return timeout


def _from_now(timeout: Optional[float]) -> Optional[float]:
    """A timeout as threading's waits take it: one that is over already is 0."""
    return 0.0 if timeout is not None and timeout < 0 else timeout


class Lock(Shared):
    """``threading.Lock`` for threads of any processes.

    It has an owner: only the thread that acquired it may release it (RuntimeError), and one that acquires it a second time
    is told (OSError, EDEADLK) instead of waiting for itself. When its owner dies, or its thread ends, the next one gets it
    and finds ``inherited`` true: what it guards may be half changed. Make good and call ``consistent()``.

    ``name`` opens ``mutex:NAME``, or makes it; without one it is for children, by fork or handed to
    ``multiprocessing.Process``.
    """

    _recursive = False

    def __init__(self, *, name: Optional[str] = None) -> None:
        self._mutex: _wigwag.Mutex = make(_wigwag.Mutex, name, recursive=self._recursive)

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._mutex,)

    def acquire(self, blocking: bool = True, timeout: Optional[float] = -1) -> bool:
        """Take it; True, or False if it could not be had in time. -1 and None wait for ever."""
        if blocking and timeout == -1:
            return self._mutex.acquire()
        seconds = _seconds(blocking, timeout, "can't specify a timeout for a non-blocking call")
        try:
            return self._mutex.acquire(bool(blocking), seconds)
        except OSError as error:
            if error.errno == errno.EDEADLK and (not blocking or seconds is not None):
                return False  # and could not be had however long one waits
            raise

    def release(self) -> None:
        """Release it. Raises RuntimeError: this thread does not hold it."""
        try:
            self._mutex.release()
        except PermissionError as error:
            raise RuntimeError("release of a lock that this thread has not acquired") from error

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._mutex.locked()

    @property
    def inherited(self) -> bool:
        """Whether it is held by one who took it over from the dead and has not called consistent()."""
        return self._mutex.inherited

    def consistent(self) -> None:
        """Say that what it guards is consistent again; see wigwag.Mutex.consistent."""
        self._mutex.consistent()

    def __enter__(self) -> bool:
        return self._mutex.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """``threading.RLock`` for threads of any processes: a Lock that its owner may acquire again."""

    _recursive = True


class Condition(Shared):
    """``threading.Condition`` for threads of any processes, over a Lock or an RLock of this module, by default an RLock.

    ``name`` opens ``condition:NAME``, and ``mutex:NAME`` where no lock is given. A wait can end without a notification,
    after somebody died at the latest; ``wait_for`` looks again.
    """

    def __init__(self, lock: Optional[Union[Lock, RLock]] = None, *, name: Optional[str] = None) -> None:
        self._lock = RLock(name=name) if lock is None else lock
        self._owns_lock = lock is None
        self._condition: _wigwag.Condition = make(_wigwag.Condition, name, self._lock._mutex)

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._condition, *(self._lock._parts() if self._owns_lock else ()))

    def acquire(self, blocking: bool = True, timeout: Optional[float] = -1) -> bool:
        """Take the lock, as its acquire."""
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock, as its release."""
        self._lock.release()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Release the lock, wait to be notified, and take the lock again; True, or False if the time has passed.

        Raises RuntimeError: this thread does not hold the lock; OSError as wigwag.Condition.wait.
        """
        self._require_lock("wait on")
        return self._condition.wait(_from_now(timeout))

    def wait_for(self, predicate: Callable[[], _T], timeout: Optional[float] = None) -> _T:
        """Wait until the predicate, called with the lock held, is true; what it last gave."""
        self._require_lock("wait on")
        return typing.cast(_T, self._condition.wait_for(predicate, timeout))

    def notify(self, n: int = 1) -> None:
        """Wake n of those who wait. Raises RuntimeError: this thread does not hold the lock."""
        self._require_lock("notify on")
        self._condition.notify(max(n, 0))

    def notify_all(self) -> None:
        """Wake all who wait, as notify."""
        self._require_lock("notify on")
        self._condition.notify_all()

    def _require_lock(self, what: str) -> None:
        if not self._lock._mutex.is_mine():
            raise RuntimeError(f"cannot {what} un-acquired lock")

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class BoundedSemaphore(Shared):
    """``threading.BoundedSemaphore`` for threads of any processes, whose permits come back when their process dies.

    A permit belongs to the process that has acquired it: releasing one that this process has not is ValueError, as is
    releasing too many. ``name`` opens ``permits:NAME``, or makes it; the one who makes it decides on ``value``, from 1 to
    16383.
    """

    def __init__(self, value: int = 1, *, name: Optional[str] = None) -> None:
        if value < 1:
            raise ValueError("semaphore initial value must be >= 1: nobody could ever acquire or release it")
        self._permits: _wigwag.Permits = make(_wigwag.Permits, name, value)

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._permits,)

    def acquire(self, blocking: bool = True, timeout: Optional[float] = None) -> bool:
        """Take a permit; True, or False if there was none in time."""
        return self._permits.acquire(bool(blocking), _from_now(timeout))

    def release(self, n: int = 1) -> None:
        """Give back n permits. Raises ValueError: this process has not as many."""
        if n < 1:
            raise ValueError("n must be one or more")
        try:
            self._permits.release(n)
        except PermissionError as error:
            raise ValueError("Semaphore released too many times by this process") from error

    def get_value(self) -> int:
        """How many can be acquired now, as multiprocessing has it."""
        return self._permits.available

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Semaphore(Shared):
    """``threading.Semaphore`` for threads of any processes: a counter that anybody may raise, above its first value too.

    As there, nobody owns what was acquired, so a process that dies with it has not released it: where permits must come
    back, use BoundedSemaphore. ``limit`` is how high it can go (1024, and twice the value, by default), rounded up to a
    power of two. ``name`` opens ``ring:NAME``, whose messages are the permits, and ``mutex:NAME``, under which they are
    laid in; all who open it must give the same value.
    """

    def __init__(self, value: int = 1, *, limit: int = 0, name: Optional[str] = None) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        slots = max(2, limit) if limit else max(1024, 2 * value)
        if value > slots:
            raise ValueError("semaphore initial value must not be above its limit")
        capacity = 64 << (slots - 1).bit_length()
        self._ring: _wigwag.Ring = make(_wigwag.Ring, name, capacity, 1, persistent=True, full="fail")
        self._filling: Optional[_wigwag.Mutex] = None if name is None else make(_wigwag.Mutex, name)
        if self._filling is None:
            self.release(value) if value else None
            return
        with self._filling:
            # Nobody uses it before this is done, and whoever finds it half done, by one who died, does the rest.
            missing = value - self._ring.statistics().sent
            if missing > 0:
                self.release(missing)

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._ring,) if self._filling is None else (self._ring, self._filling)

    def acquire(self, blocking: bool = True, timeout: Optional[float] = None) -> bool:
        """Take one; True, or False if there was none in time."""
        if not blocking and timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        try:
            self._ring.recv(_from_now(timeout) if blocking else 0)
        except (BlockingIOError, TimeoutError):
            return False
        return True

    def release(self, n: int = 1) -> None:
        """Add n. Raises OverflowError at its limit, with those added that there was room for."""
        if n < 1:
            raise ValueError("n must be one or more")
        for _ in range(n):
            try:
                self._ring.send(b"")
            except BlockingIOError as error:
                raise OverflowError("Semaphore released beyond its limit; make it with a higher one") from error

    def get_value(self) -> int:
        """How many can be acquired now, as multiprocessing has it."""
        return self._ring.statistics().queued

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Event(Shared):
    """``threading.Event`` for threads of any processes. ``name`` opens ``event:NAME``, or makes it."""

    def __init__(self, *, name: Optional[str] = None) -> None:
        self._event: _wigwag.Event = make(_wigwag.Event, name)

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._event,)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it, and wake those who wait."""
        self._event.set()

    def clear(self) -> None:
        """Take it back."""
        self._event.clear()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until it is set; True, or False if the time has passed."""
        return self._event.wait(_from_now(timeout))


class Barrier(Shared):
    """``threading.Barrier`` for threads of any processes, which breaks when a process dies that has used it.

    ``action`` is called by one of those who meet, before any of them goes on, and has to be picklable for processes that
    are not made by fork. Unlike with threading's, no more than ``parties`` may use one with an action: one who comes while
    it runs is taken for one of those who wait for its end. ``name`` opens ``barrier:NAME``; the one who makes it decides on
    ``parties``.
    """

    def __init__(
        self,
        parties: int,
        action: Optional[Callable[[], object]] = None,
        timeout: Optional[float] = None,
        *,
        name: Optional[str] = None,
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self._barrier: _wigwag.Barrier = make(_wigwag.Barrier, name, parties)
        self._action = action
        self._timeout = timeout

    def _parts(self) -> Tuple[typing.Any, ...]:
        return (self._barrier,)

    def wait(self, timeout: Optional[float] = None) -> int:
        """Arrive, and wait until all have; a number from 0 to parties - 1, different for each.

        Raises BrokenBarrierError: the time has passed for this or another party, somebody died, or it was aborted or reset.
        """
        number = self._meet(_from_now(self._timeout if timeout is None else timeout))
        if self._action is not None:
            if number == self._barrier.parties - 1:
                try:
                    self._action()
                except BaseException:
                    self._barrier.abort()
                    raise
            # Nobody goes on before the action is done, which may take longer than those who meet wait for each other.
            self._meet(None)
        return number

    def _meet(self, timeout: Optional[float]) -> int:
        try:
            return self._barrier.wait_numbered(timeout)
        except OSError as error:
            if isinstance(error, (BlockingIOError, TimeoutError)):
                self._barrier.abort()
            elif error.errno != errno.EOWNERDEAD:
                raise
            raise BrokenBarrierError from error

    def reset(self) -> None:
        """Begin anew: who waits gets BrokenBarrierError, who comes waits for all."""
        self._barrier.reset()

    def abort(self) -> None:
        """Break it: all who wait, and all who come until it is reset, get BrokenBarrierError."""
        self._barrier.abort()

    @property
    def parties(self) -> int:
        """How many have to arrive."""
        return self._barrier.parties

    @property
    def n_waiting(self) -> int:
        """How many have arrived."""
        return self._barrier.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._barrier.broken
