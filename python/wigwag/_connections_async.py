"""Connections of one event loop, each under a lease of a pool that all processes of the host share.

As ``_connections`` has it for threads: those not in use are kept open, with their leases, until somebody on the host waits for a
slot. All is done by the tasks of one loop; two threads at most sleep in the kernel for all of them, one for a slot, and one to hear
of those who wait elsewhere.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import errno
import os
import threading
import time
import typing
import weakref
from typing import Awaitable, Callable, Deque, Generic, List, Optional, Set, TypeVar

from ._aio import call_in_thread
from ._connections import _GONE, _LOOK_AGAIN, _TAKEN, Held, _inherited, _let_go, _started, left, long_enough
from ._wigwag import Cancel, Lease, LeasePool

_C = TypeVar("_C")
#: What a task is handed that waits: a connection, or a slot to open one under.
_Found = typing.Union[Held[_C], Lease]

#: How often to look after those not in use when nobody else waits, in seconds.
_LOOK = 1.0


class AsyncConnections(Generic[_C]):
    """See above. ``connect`` opens a connection under a lease, and has time until a deadline; ``close`` closes one and says
    whether the other side is known to be gone; ``settle`` makes sure that nothing is left of a dirty slot's connection.
    """

    def __init__(
        self,
        pool: typing.Union[str, LeasePool],
        connect: Callable[[Lease, Optional[float]], Awaitable[_C]],
        close: Callable[[_C], Awaitable[bool]],
        settle: Callable[[Lease, Optional[float]], Awaitable[None]],
        *,
        group: str = "",
        note: str = "",
        turn: float = 0.1,
        idle: float = 60.0,
        lifetime: Optional[float] = None,
        check: Optional[Callable[[_C, Optional[float]], Awaitable[None]]] = None,
    ) -> None:
        self.pool = LeasePool.open(pool) if isinstance(pool, str) else pool
        self._owns_pool = isinstance(pool, str)
        self._connect, self._close, self._settle = connect, close, settle
        self._group, self._note, self._turn, self._idle_time = group, note, turn, idle
        self._lifetime, self._check = lifetime, check
        self._expires = self.pool.statistics().expires
        self._closed = False
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        """As new, with nothing in hand."""
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._idle: Deque[Held[_C]] = collections.deque()
        self._all: Set[Held[_C]] = set()
        self._waiters: Deque["asyncio.Future[_Found[_C]]"] = collections.deque()
        self._acquiring: Optional["asyncio.Future[Lease]"] = None
        self._dropping: Set["asyncio.Future[None]"] = set()
        #: Slots under which connections are being opened.
        self._opening: Set[Lease] = set()
        #: What is still being ended of earlier sessions for tasks that were cancelled.
        self._settling: Set["asyncio.Future[None]"] = set()
        self._is_watched = False
        self._keeper: Optional[threading.Thread] = None
        self._keeper_ends = Cancel()
        #: Has the keeper look at what has changed.
        self._stir = threading.Event()

    # --- for callers, all in one loop ---

    async def take(self, timeout: Optional[float] = None) -> Held[_C]:
        """A connection; waits for one. Raises what the lease pool, ``settle`` and ``connect`` raise."""
        self._require_loop()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._closed:
                raise ValueError("operation on a closed pool of connections")
            held = self._idle.pop() if self._idle else await self._wait(deadline)
            try:
                held.lease.check()
            except OSError:  # it has expired: whoever has the slot now ends the session
                await self.drop(held)
                continue
            if await self._works(held, deadline):
                return held

    async def _works(self, held: Held[_C], deadline: Optional[float]) -> bool:
        """Whether a connection can be handed out; else it is dropped. One that has just been opened can, so this ends."""
        if not held.kept:
            return True
        if self._is_old(held):
            await self.drop(held)
            return False
        if self._check is None:
            return True
        try:
            await self._check(held.connection, long_enough(deadline))
        except BaseException as error:
            await self.drop(held, not isinstance(error, (TimeoutError, asyncio.TimeoutError)))
            if not isinstance(error, Exception):
                raise
            return False
        return True

    async def give(self, held: Held[_C]) -> None:
        """Gives back a connection that is fit for the next."""
        held.kept = True
        if self._closed or self._is_due(held):
            await self.drop(held)
            return
        if self._hand(held):
            return
        held.idle_since = time.monotonic()
        self._idle.append(held)
        self._stir.set()
        self._keep_watch()

    async def drop(self, held: Held[_C], is_heard: bool = True) -> None:
        """Closes a connection and gives its slot back; unless ``is_heard`` as dirty, since the other side does not answer."""
        if held.pid != os.getpid():
            _inherited.append(held)
            return
        self._all.discard(held)
        if not self._all:
            self._stir.set()
        gone = False
        try:
            gone = await self._close(held.connection) and is_heard
        finally:
            _let_go(held.lease, gone)

    async def close(self) -> None:
        """Closes those not in use, and the others when they are given back, until when their leases are renewed. Who waits gets
        an error. If it is cancelled, all goes on, and may be waited for by another call."""
        self._closed = True
        self._fail(ValueError("the pool of connections was closed"))
        self._keeper_ends.fire()
        self._stir.set()
        while self._idle:
            self._drop_soon(self._idle.popleft())
        if self._acquiring is not None:
            self._acquiring.cancel()
        while self._dropping:
            await asyncio.wait(self._dropping)
        while self._acquiring is not None:
            await asyncio.wait({self._acquiring})
        if self._keeper is not None and self._loop is asyncio.get_running_loop() and not (self._all or self._opening):
            await call_in_thread(self._keeper.join, (), _GONE, None)
        if self._settling:
            await asyncio.wait(self._settling, timeout=_GONE)
        if self._owns_pool:
            self.pool.close()

    def _drop_soon(self, held: Held[_C]) -> None:
        dropping = asyncio.ensure_future(self.drop(held))
        self._dropping.add(dropping)
        dropping.add_done_callback(self._dropping.discard)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def open(self) -> int:
        return len(self._all)

    # --- how ---

    def _require_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this pool of connections belongs to another event loop; make one for each")

    def _is_due(self, held: Held[_C]) -> bool:
        """Whether it is to be given up, although it works."""
        try:
            held.lease.check()
        except OSError:
            return True
        if held.lease.slot >= self.pool.slots or self._is_old(held):
            return True
        others = self._is_wanted_elsewhere(held.lease)
        return others and (not self._waiters or time.monotonic() - held.since > self._turn)

    def _is_wanted_elsewhere(self, lease: Lease) -> bool:
        """Whether others wait who could have this slot, or there is to be none."""
        try:
            return lease.slot >= self.pool.slots or lease._waiting() > (self._acquiring is not None)
        except ValueError:  # it was given up meanwhile
            return False

    def _is_old(self, held: Held[_C]) -> bool:
        return self._lifetime is not None and time.monotonic() - held.since >= self._lifetime

    async def _wait(self, deadline: Optional[float]) -> Held[_C]:
        """Waits for a slot or for a connection of this loop's, whichever comes first."""
        lease = self._free_slot()
        if lease is not None:
            return await self._open(lease, deadline)
        waiter: "asyncio.Future[_Found[_C]]" = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._acquire()
        try:
            await asyncio.wait({waiter}, timeout=left(deadline))
        except BaseException:
            self._leave(waiter)
            if waiter.done() and waiter.exception() is None:
                await self._pass_on(waiter.result())
            raise
        self._leave(waiter)
        if not waiter.done():
            raise TimeoutError(errno.ETIMEDOUT, "acquire: the deadline passed", self.pool.address)
        found = waiter.result()
        return found if isinstance(found, Held) else await self._open(found, deadline)

    def _free_slot(self) -> Optional[Lease]:
        """Not past those who wait already."""
        if not self._waiters:
            with contextlib.suppress(BlockingIOError):
                return self.pool.acquire(0, group=self._group, note=self._note)
        return None

    def _leave(self, waiter: "asyncio.Future[_Found[_C]]") -> None:
        with contextlib.suppress(ValueError):  # it was handed something
            self._waiters.remove(waiter)
        if not self._waiters and self._acquiring is not None:
            self._acquiring.cancel()

    def _hand(self, found: "_Found[_C]") -> bool:
        """Hands something to who waits longest, if anybody does."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(found)
                return True
        return False

    async def _pass_on(self, found: "_Found[_C]") -> None:
        if isinstance(found, Held):
            await self.give(found)
        elif not self._hand(found):
            found.release()

    def _acquire(self) -> None:
        """Waits for one slot, whoever is to have it: a thread, and a place in the host's line, are enough for all tasks."""
        if self._acquiring is None:
            acquiring = asyncio.ensure_future(self.pool.acquire_async(None, group=self._group, note=self._note))
            self._acquiring = acquiring
            acquiring.add_done_callback(self._acquired)

    def _acquired(self, acquiring: "asyncio.Future[Lease]") -> None:
        self._acquiring = None
        if not acquiring.cancelled():
            error = acquiring.exception()
            if error is not None:
                self._fail(error)
                return
            if not self._hand(acquiring.result()):
                acquiring.result().release()
        if self._waiters:
            self._acquire()

    def _fail(self, error: BaseException) -> None:
        waiters, self._waiters = self._waiters, collections.deque()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    async def _open(self, lease: Lease, deadline: Optional[float]) -> Held[_C]:
        self._opening.add(lease)
        settling: Optional["asyncio.Future[None]"] = None
        try:
            if self._expires is not None:
                self._keep_watch()
            deadline = long_enough(deadline)
            if lease.dirty:
                settling = asyncio.ensure_future(self._settle(lease, deadline))
                await asyncio.wait({settling})
                settling.result()
                lease.information = b""
                lease.make_clean()
            held = Held(await self._connect(lease, deadline), lease)
        except BaseException:
            if settling is None or settling.done():
                if settling is not None and not settling.cancelled():
                    settling.exception()  # looked at
                self._not_opened(lease)
            else:  # a task that is cancelled does not wait for that, but the slot does: it may end the session of the next
                self._settling.add(settling)
                settling.add_done_callback(lambda settled: self._settled(settled, lease))
            settling = None  # which an exception's traceback leads to
            raise
        self._opening.discard(lease)
        self._all.add(held)
        return held

    def _not_opened(self, lease: Lease) -> None:
        self._opening.discard(lease)
        _let_go(lease, False)  # who knows what the other side has made of it

    def _settled(self, settling: "asyncio.Future[None]", lease: Lease) -> None:
        self._settling.discard(settling)
        if not settling.cancelled():
            settling.exception()  # looked at: it comes again with the next who has the slot
        self._not_opened(lease)

    # --- the thread that hears of those who wait elsewhere ---

    def _keep_watch(self) -> None:
        if not self._is_watched:
            loop = asyncio.get_running_loop()
            self._keeper = _started(lambda: self._keep(loop), "wigwag-lease-keeper")
            self._is_watched = self._keeper is not None

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        period = max(0.001, min(_LOOK, self._idle_time if self._expires is None else self._expires / 3))
        while True:
            wanted = self._hears(period)
            given_up = self._ask(loop, wanted)
            if given_up is None:
                return
            if wanted:
                time.sleep(_TAKEN if given_up else _LOOK_AGAIN)

    def _hears(self, period: float) -> bool:
        """Sleeps until something has changed, or for this time; whether somebody waits elsewhere."""
        if self._idle and not self._closed:
            try:
                with self._keeper_ends:
                    self.pool.wait_wanted(period)
                return True
            except TimeoutError:
                return False
            except (OSError, ValueError):
                pass  # the pool of leases is closed, or this handle was declared dead: it will not tell of anything any more
        self._stir.wait(period)
        self._stir.clear()
        return False

    def _ask(self, loop: asyncio.AbstractEventLoop, wanted: bool) -> Optional[int]:
        """What ``_look_after`` gives in the loop, which may not run just now; None if it never will again."""
        answer: "concurrent.futures.Future[Optional[int]]" = concurrent.futures.Future()
        try:
            loop.call_soon_threadsafe(self._answer, wanted, answer)
        except RuntimeError:
            return None
        while True:
            try:
                return answer.result(_LOOK)
            except concurrent.futures.TimeoutError:
                if loop.is_closed():
                    return None

    def _answer(self, wanted: bool, answer: "concurrent.futures.Future[Optional[int]]") -> None:
        given_up: Optional[int] = 0
        try:
            given_up = self._look_after(wanted)
        finally:  # what went wrong the loop's handler tells
            answer.set_result(given_up)

    def _look_after(self, wanted: bool) -> Optional[int]:
        """Renews leases and gives up what is due; how many, or None if there is nothing more to look after."""
        if self._expires is not None:
            for lease in [*(held.lease for held in self._all), *self._opening]:
                with contextlib.suppress(OSError, ValueError):  # lost: found out when it is used next
                    lease.renew()
        surplus = self._surplus(wanted)
        for held in surplus:
            self._drop_soon(held)  # a server may take its time
        if self._idle or (self._expires is not None and (self._all or self._opening)):
            return len(surplus)
        self._is_watched = False
        return None

    def _surplus(self, wanted: bool) -> List[Held[_C]]:
        """Takes out what nobody has used for long, and one that somebody waits for."""
        now = time.monotonic()
        surplus = [one for one in self._idle if now - one.idle_since >= self._idle_time]
        if wanted and not surplus:
            surplus = [one for one in self._idle if self._is_wanted_elsewhere(one.lease)][:1]
        for one in surplus:
            self._idle.remove(one)
        return surplus


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def gone_async(fd: int) -> bool:
    """Waits until the other side of a socket is gone; whether it is."""
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + _GONE
    os.set_blocking(fd, False)
    while True:
        try:
            if os.read(fd, 4096) == b"":
                return True
            continue
        except BlockingIOError:
            pass
        except OSError:
            return True
        ready: "asyncio.Future[None]" = loop.create_future()
        loop.add_reader(fd, _resolve, ready)
        try:
            done, _ = await asyncio.wait({ready}, timeout=left(deadline))
        finally:
            loop.remove_reader(fd)
        if not done:
            return False


_all: "weakref.WeakSet[AsyncConnections[typing.Any]]" = weakref.WeakSet()


def _after_fork() -> None:
    for connections in list(_all):
        _inherited.append((connections._all, connections._idle, connections._waiters))
        connections._forget()


os.register_at_fork(after_in_child=_after_fork)
