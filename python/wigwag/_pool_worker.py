"""The workers of a process pool."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import traceback
from typing import Any, Callable, Optional, Tuple

from . import _wigwag
from ._pool_blocks import Reader, Writer
from ._pool_message import SMALL, Calls, pack, pack_result

# Before a result: the worker's number, and whether it is one.
HEAD = struct.Struct("<Ic")
#: What a small result begins with behind the number.
SMALL_RESULT = b"d" + SMALL

Initializer = Optional[Callable[..., object]]


class RemoteTraceback(Exception):
    """Where in the worker it was raised; the cause of the exception that a future raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class Seat:
    """A worker's seat and files on their way into its process. ``life`` is None if the kernel watches it already."""

    def __init__(self, seat: Any, error: int, tasks: int, results: int, life: Optional[int] = None) -> None:
        self.seat, self.error, self.tasks, self.results, self.life = seat, error, tasks, results, life

    def __reduce__(self) -> Tuple[Any, ...]:
        from multiprocessing.reduction import DupFd

        number, address, descriptors = self.seat.hand_over()
        files = [DupFd(fd) for fd in (*descriptors, self.error, self.tasks, self.results, self.life)]
        return _taken_over, (number, address, files)


def _taken_over(number: int, address: str, files: Any) -> Seat:
    orders, reports, claims, error, tasks, results, life = (file.detach() for file in files)
    _die_with(life)
    return Seat(_wigwag.WorkerSeat.taken_over(number, address, (orders, reports, claims)), error, tasks, results)


def _die_with(life: int) -> None:
    """Has the kernel kill this process when the pool's, which may be no parent of it, has let go of the pipe."""
    # Whom to kill belongs to the description, which all workers share: this opens one of its own, for as long as it lives.
    own = os.open(f"/proc/self/fd/{life}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(life)
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(own, 1)
    except BlockingIOError:
        return
    os.kill(os.getpid(), signal.SIGKILL)  # it has gone before


def _die_with_parent(place: Seat) -> None:
    """Has the kernel kill this process when its parent is gone: the pool's process, or its fork server."""
    _wigwag.die_with_parent()
    if place.life is not None:  # by fork
        pool = multiprocessing.parent_process()
        if pool is not None and os.getppid() != pool.pid:
            os._exit(1)  # it has gone before


def _pass(*_: Any) -> None:
    pass


def main(place: Seat, number: int, initializer: Initializer, arguments: Tuple[Any, ...]) -> None:
    """Work until the pool says stop."""
    _die_with_parent(place)
    # Ctrl-C is for the pool's process, which ends its workers; and for programs that tasks have started, which would go on
    # ignoring it after exec if it were ignored here.
    signal.set_wakeup_fd(-1)  # after a fork that of the pool's process
    signal.signal(signal.SIGINT, _pass)
    signal.siginterrupt(signal.SIGINT, False)
    os.dup2(place.error, 2)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    if initializer is not None:
        initializer(*arguments)
    seat = place.seat
    reader, writer, calls = Reader(place.tasks, number), Writer(place.results, seat.largest), Calls()
    task: Any
    args: Any
    kwargs: Any
    done, failed = HEAD.pack(number, b"d"), HEAD.pack(number, b"e")
    while True:
        found = seat.next()
        if found is None:
            return
        index, message = found
        reader.last = None
        try:
            task, args, kwargs = calls.unpack(message, reader)
            result = task(*args, **kwargs)
            packed = pack_result(done, result, reader, writer)
            del task, args, kwargs, result
            report = packed if isinstance(packed, bytes) else packed.message(reader, writer)
        except BaseException as error:
            report = _failure(failed, error, writer)
            task = args = kwargs = result = None  # what they were made of is free
        seat.report(index, report)


def _failure(head: bytes, error: BaseException, writer: Writer) -> bytes:
    text = _told(lambda: "".join(traceback.format_exception(type(error), error, error.__traceback__)))
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))  # some come out as nothing that can be raised
        return pack(head, (error, text), writer)[0]
    except Exception as why:
        said, reason = _told(lambda: str(error)), _told(lambda: str(why))
        stand_in = RuntimeError(f"{type(error).__name__}: {said} (the exception itself cannot be pickled: {reason})")
        return pack(head, (stand_in, text), writer)[0]


def _told(tell: Callable[[], str]) -> str:
    """What an exception says, which is its own code and may fail, too."""
    try:
        return tell()
    except Exception:
        return "(an exception that cannot be shown)"
