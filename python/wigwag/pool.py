"""A pool of processes with the shape of concurrent.futures, where a death costs one task."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import itertools
import multiprocessing
import multiprocessing.process
import os
import signal
import threading
import time
import warnings
import weakref
from concurrent.futures import CancelledError, Executor
from concurrent.futures import _base
from pickle import loads
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from . import _wigwag
from ._pool_blocks import OWN, Reader, Writer, make_file
from ._pool_future import TaskFuture
from ._pool_map import in_order, run_chunk
from ._pool_message import Calls, unpack
from ._pool_worker import HEAD, SMALL_RESULT, RemoteTraceback, Seat, main

_BATCH = 512
#: What tasks travel over that is not handed over as descriptors.
_BY_FORK = ("ring", "mq", "sysv-mq")
# What multiprocessing imports when it starts a process.
_STARTING = {
    "fork": ("popen_fork",),
    "spawn": ("popen_spawn_posix", "resource_tracker"),
    "forkserver": ("popen_forkserver", "forkserver", "resource_tracker"),
}
#: Where in a result's message its outcome is, and a small result.
_OUTCOME = HEAD.size - 1
_SMALL_RESULT = _OUTCOME + len(SMALL_RESULT)
_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class TaskLost(RuntimeError):
    """The worker of a task ended while it ran it. The other tasks are not affected.

    ``task`` is the task's number, ``pid`` the worker's process, ``signal`` or ``exit_code`` how it ended, ``peak_memory`` the
    most memory in bytes that it had (0 if unknown), ``last_words`` the end of what it wrote to standard error.
    """

    task: int
    pid: int
    signal: Optional[int]
    exit_code: Optional[int]
    peak_memory: int
    last_words: str

    def __init__(self, text: str, fields: Tuple[Any, ...]) -> None:
        super().__init__(text)
        self.task, self.pid, self.signal, self.exit_code, _, _, self.peak_memory, self.last_words = fields
        self._fields = fields

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.args[0], self._fields)


class TaskTimeout(TaskLost, TimeoutError):
    """The task ran for longer than it may; its worker was killed."""


class TaskMemory(TaskLost, MemoryError):
    """The task's worker had more memory than it may, and was killed."""


class TaskPoison(RuntimeError):
    """The task was set aside, as its workers ended each time; ``deaths`` has a TaskLost for each attempt."""

    def __init__(self, text: str, deaths: List[TaskLost]) -> None:
        super().__init__(text)
        self.deaths = deaths

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.args[0], self.deaths)


def _death(fields: Tuple[Any, ...]) -> TaskLost:
    task, pid, number, exit_code, reason, limit, peak, words = fields
    how = f"was ended by signal {number}" if number is not None else f"exited with {exit_code}"
    if number is None and exit_code is None:
        how = "ended, and somebody else has been told how"
    kind = TaskLost
    if reason == "timeout":
        kind, how = TaskTimeout, how + f", as the task ran for longer than {limit:g} s"
    elif reason == "memory":
        kind, how = TaskMemory, how + f", as it had more than {int(limit)} bytes of memory"
    elif reason == "start":
        how += f", as it had asked for no task after {limit:g} s"
    text = f"task {task}: its worker (pid {pid}) {how}"
    if peak:
        text += f"; it had up to {peak // 1024} KiB"
    if words.strip():
        text += f"; it last said: {words.strip()}"
    return kind(text, fields)


#: This process, not those that it is forked into: cheaper to compare than to ask for its pid.
_this_process = object()

_all_workers: "weakref.WeakSet[_Workers]" = weakref.WeakSet()


def _after_fork() -> None:
    global _this_process
    _this_process = object()
    for workers in list(_all_workers):
        workers.forked()


os.register_at_fork(after_in_child=_after_fork)


class _Workers:
    """Starts workers, and has what they write. Knows nothing of the pool, which may be forgotten while it is at work."""

    def __init__(self, context: Any, tasks: int, initializer: Any, arguments: Tuple[Any, ...]) -> None:
        self._context, self._tasks = context, tasks
        self._initializer, self._initargs = initializer, arguments
        self._launched = itertools.count(1)
        #: Whose writing end only this process has: at its end the kernel closes it.
        self._life: Tuple[int, ...] = os.pipe()
        _all_workers.add(self)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._processes: Dict[int, Any] = {}
        self.readers: Dict[int, Tuple[Any, Reader]] = {}
        #: What tasks are written by, once the pool is there.
        self.writer: Optional[Writer] = None
        #: How often everything that was ready has been collected; and how often it had been when a worker was found gone.
        self.collected = 0
        self._gone: Dict[int, int] = {}
        #: Once the workers were told to end: what is done before another starts, which has nothing to do then.
        self.instead: Optional[Callable[[], None]] = None

    def launch(self, seat: Any, error: int) -> int:
        results = make_file()
        number = next(self._launched)
        try:
            self.forget_the_dead()
            place = Seat(seat, error, self._tasks, results, self._life[0])
            work: Tuple[Any, ...] = (main, place, number, self._initializer, self._initargs)
            if self.instead is not None:
                self.instead()
                work = (bool,)
            process = self._context.Process(target=work[0], args=work[1:], name=f"wigwag-worker-{number}")
            with warnings.catch_warnings():
                # By fork only if the caller asked for it: what it says of threads is in the documentation.
                warnings.simplefilter("ignore", DeprecationWarning)
                # This thread of the pool's has all signals blocked, and whoever it starts would have, too.
                own = signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, own)
        except BaseException:
            os.close(results)
            raise
        finally:
            os.close(error)
        # The pool reaps its workers, and must not find that somebody has done so.
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
        self._processes[process.pid] = process
        self.readers[number] = (process, Reader(results, OWN))
        return int(process.pid)

    def end_of(self, pid: int) -> Optional[int]:
        process = self._processes.get(pid)
        if process is None:
            return None
        process.join(1)
        code: Optional[int] = process.exitcode
        if code is None:
            return None
        return -code if code < 0 else code << 8

    def forget_the_dead(self) -> None:
        """Lets go of the files of workers that have gone and have no result on its way; views of results live on."""
        for number, (process, reader) in list(self.readers.items()):
            if not os.path.exists(f"/proc/{process.pid}"):
                # What a worker had reported was ready to be collected before another takes its place.
                seen = self._gone.setdefault(number, self.collected)
                if self.collected >= seen + 2:
                    del self.readers[number], self._gone[number]
                    if self.writer is not None:
                        self.writer.forget(number)
                    self._processes.pop(process.pid, None)
                    reader.close()

    def close(self) -> None:
        """Let go of all files; views of results live on."""
        for _, reader in self.readers.values():
            reader.close()
        self.readers.clear()
        self._processes.clear()
        life, self._life = self._life, ()  # first: a child made meanwhile must not close what has these numbers then
        for fd in life:
            os.close(fd)

    def forked(self) -> None:
        """In a child made by fork: workers end with their pool's process, whoever lives on."""
        life, self._life = self._life[1:], self._life[:1]
        for fd in life:
            os.close(fd)


class ProcessPool(Executor):
    """A pool of worker processes with everything that concurrent.futures.ProcessPoolExecutor has, where no death breaks it.

    Each task has a verdict of its own: a worker that is killed, exits, has too much memory or runs for too long fails its
    task alone (TaskLost, TaskMemory, TaskTimeout), is replaced, and all other tasks go on. A task runs at most once, or with
    ``retries`` again on other workers, until it is set aside (TaskPoison); its arrays keep what a dead attempt has changed in
    them. Large arguments and results (bytes, NumPy and Arrow arrays: pickle protocol 5, buffers out of band) go through shared
    memory once and are views of it on arrival; results that are what the task was given, or a quarter of it at least, stay
    where they are.

    ``max_workers`` is one per processor by default; ``mp_context`` a multiprocessing context or a start method, forkserver by
    default, as that is safe in threaded programs; ``initializer(*initargs)`` runs first in each worker;
    ``max_tasks_per_child`` is how many tasks a worker does before it is replaced. ``task_timeout`` in seconds and
    ``memory_limit`` in bytes (of a worker's own resident memory, not of files and shared memory; the kernel's to hold it to where this process may make control
    groups, else looked at 20 times a second) are for each task; ``queue`` is how many tasks may wait for a worker, after which
    submit waits; ``address`` what tasks travel over (``"pipe:"``; with ``mp_context="fork"`` also ``ring:``, ``mq:`` or
    ``sysv-mq:``). A worker that has not done with its imports and its initializer after ``start_timeout`` seconds is killed (None for
    never), as one that ends before it has begun, and the next has twice as long, up to 16 times; time in which this process does not
    run does not count. Workers end with this process, also if it is killed.
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Any = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Tuple[Any, ...] = (),
        *,
        max_tasks_per_child: Optional[int] = None,
        min_workers: Optional[int] = None,
        task_timeout: Optional[float] = None,
        memory_limit: int = 0,
        retries: int = 0,
        queue: int = 0,
        shrink_after: float = 10.0,
        address: Any = None,
        start_timeout: Optional[float] = 60.0,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None and (not isinstance(max_tasks_per_child, int) or max_tasks_per_child <= 0):
            raise ValueError("max_tasks_per_child must be an integer above 0")
        if mp_context is None or isinstance(mp_context, str):
            mp_context = multiprocessing.get_context(mp_context or "forkserver")
        if str(address).partition(":")[0] in _BY_FORK and mp_context.get_start_method() != "fork":
            raise ValueError(f'only workers by fork can have their tasks over {address}: give mp_context="fork"')
        self._futures: Dict[int, TaskFuture] = {}
        self._early: Dict[int, Tuple[int, Any]] = {}
        self._calls = Calls()
        for module in _STARTING.get(mp_context.get_start_method(), ()):
            # Here, and not first by the thread that starts workers: the caller may be in the middle of an import.
            importlib.import_module(f"multiprocessing.{module}")
        initargs = tuple(initargs)
        tasks = make_file()
        self._workers = _Workers(mp_context, tasks, initializer, initargs)
        self._raised = 0
        self._last: Optional[Dict[str, Any]] = None
        self._over = False
        self._letting_go = threading.Lock()
        self._collector_lets_go = False
        self._process = _this_process
        core: Any = None
        try:
            #: For results that are parts of what their tasks were given.
            self._given: Optional[Reader] = Reader(tasks, OWN)
            self._core = core = _wigwag.PoolCore(
                self._workers.launch,
                self._workers.end_of,
                address=address,
                workers=max_workers or 0,
                least_workers=min_workers,
                shrink_after=shrink_after,
                queue=queue,
                retries=retries,
                task_timeout=task_timeout,
                start_timeout=start_timeout,
                memory_limit=memory_limit,
                tasks_per_worker=max_tasks_per_child or 0,
            )
            self._writer = self._workers.writer = Writer(tasks, core.largest)
            self._collector = threading.Thread(
                target=_collect, args=(weakref.ref(self), core, self._futures), name="wigwag-collector", daemon=True
            )
            self._collector.start()
        except BaseException:
            if core is not None:
                with contextlib.suppress(OSError):
                    core.shutdown(True, 0)
                core.close()
            self._workers.close()
            os.close(tasks)
            raise
        # When all tasks of a pool that is forgotten have their verdicts: until then the collector has it by their futures.
        forgetting = weakref.finalize(self, _forgotten, core, self._workers, self._writer)
        setattr(forgetting, "atexit", False)  # as the type checker knows no such attribute
        _alive.add(self)

    # Tasks

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run ``fn(*args, **kwargs)`` in a worker; the future of its result. Waits while ``queue`` tasks wait already."""
        return self._submit(fn, args, kwargs, 0, None, None)

    def submit_with(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        task_priority: int = 0,
        task_timeout: Optional[float] = None,
        submit_timeout: Optional[float] = None,
        **kwargs: Any,
    ) -> TaskFuture:
        """As submit: tasks of a higher ``task_priority`` run first, ``task_timeout`` is for this task alone, and
        ``submit_timeout`` is how long to wait for a place in the queue (TimeoutError)."""
        return self._submit(fn, args, kwargs, task_priority, task_timeout, submit_timeout)

    def _submit(
        self,
        fn: Callable[..., Any],
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        priority: int,
        limit: Optional[float],
        timeout: Optional[float],
    ) -> TaskFuture:
        if self._over:
            raise RuntimeError(_AFTER_SHUTDOWN)
        if self._process is not _this_process:
            raise RuntimeError("this pool belongs to the process that made it; make another one here")
        future = TaskFuture()
        try:
            message, block = self._calls.pack(fn, args, kwargs, self._writer)
        except Exception as error:
            # Where concurrent.futures says so, too: in the future of the task that cannot be sent.
            future.set_exception(error)
            return future
        future._pool = self
        if block is not None:
            future._block = block
        try:
            number = self._core.submit(message, priority, limit, timeout)
        except BaseException as error:
            if block is not None:
                self._writer.let_go(block, unread=True)
            if self._over and isinstance(error, (OSError, ValueError)) and not isinstance(error, TimeoutError):
                raise RuntimeError(_AFTER_SHUTDOWN) from None  # another thread has ended the pool meanwhile
            raise
        future._number = number
        self._futures[number] = future
        if self._early:
            early = self._early.pop(number, None)
            if early is not None:
                self._futures.pop(number, None)
                self._settle(future, *early)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
    ) -> Iterator[Any]:
        """As the builtin map, with the calls in workers, ``chunksize`` at a time, results in order.

        The iterables are gone through at once, or with ``buffersize`` only so many calls ahead of the results taken.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else timeout + time.monotonic()
        calls = zip(*iterables)
        if chunksize == 1:
            futures = (self.submit(fn, *args) for args in calls)
            results = in_order(futures, end, buffersize)
        else:
            chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
            futures = (self.submit(run_chunk, fn, chunk) for chunk in chunks)
            results = itertools.chain.from_iterable(in_order(futures, end, buffersize))
        return results

    def _cancel(self, future: TaskFuture, running: bool) -> bool:
        cancelled = self._core.cancel(future._number, running)
        if not cancelled:
            return False
        if not running:
            # Its memory is let go when the verdict comes, once.
            future._settle(_base.CANCELLED_AND_NOTIFIED, None, None)
            return True
        if threading.current_thread() is self._collector:
            return True  # which is who takes in the verdict
        try:
            future.exception()
        except CancelledError:
            return True
        return False

    # Verdicts

    def _take_in(self, found: List[Tuple[int, int, Any]]) -> None:
        futures = self._futures
        for number, kind, what in found:
            future = futures.pop(number, None)
            if future is None:
                self._early[number] = (kind, what)
                future = futures.pop(number, None)
                if future is None or self._early.pop(number, None) is None:
                    continue
            try:
                self._settle(future, kind, what)
            except BaseException:  # of a callback, such as SystemExit: the others wait for this thread
                _base.LOGGER.exception("exception calling callback for %r", future)

    def _settle(self, future: TaskFuture, kind: int, what: Any) -> None:
        result, error = None, None
        if kind == 0 and what.startswith(SMALL_RESULT, _OUTCOME):
            try:
                result = loads(what[_SMALL_RESULT:])
            except BaseException as why:
                error = why
        elif kind == 0:
            try:
                number, outcome = HEAD.unpack_from(what)
                result = unpack(what, HEAD.size, self._workers.readers[number][1], self._given)
                if outcome == b"e":
                    error, text = result
                    self._raised += 1
                    error.__cause__ = RemoteTraceback(text)
            except BaseException as why:
                error = why
        elif kind == 1:
            error = RuntimeError(what)
        elif kind == 3:
            error = _death(what)
        elif kind == 4:
            deaths = [_death(fields) for fields in what]
            error = TaskPoison(f"set aside after {len(deaths)} attempts; the last: {deaths[-1]}", deaths)
        if future._block is not None:
            # Of a task that was cancelled or whose worker is dead, no worker looks at it any more.
            self._writer.let_go(future._block, unread=kind in (2, 3, 4))
        future._pool = None
        future._settle(_base.CANCELLED_AND_NOTIFIED if kind == 2 else _base.FINISHED, result, error)

    def statistics(self) -> Dict[str, Any]:
        """Counts of tasks (``submitted = done + failed + lost + cancelled + poisoned + queued + running``), and per worker its
        pid, tasks, busy share, memory in bytes, and whether a control group holds it to the memory limit (``in_group``)."""
        found = self._last if self._last is not None else self._core.statistics()
        # To the core, bytes that came back are a result.
        return {**found, "done": found["done"] - self._raised, "failed": found["failed"] + self._raised}

    # The end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, timeout: Optional[float] = None) -> None:
        """Take no more tasks, and end the workers when all is done; with ``cancel_futures``, cancel what has not begun.

        With ``wait``, returns when the workers are gone; ``timeout`` is how many seconds running tasks have until then, after
        which they are cancelled and their workers killed (None: as long as they take).
        """
        if self._process is not _this_process:
            return
        already, self._over = self._over, True
        if not wait:
            # Or more than it was told before.
            if not already or (self._last is None and (cancel_futures or timeout is not None)):
                threading.Thread(
                    target=self.shutdown, kwargs={"cancel_futures": cancel_futures, "timeout": timeout}, daemon=True
                ).start()
            return
        if self._last is None:
            try:
                self._core.shutdown(cancel_futures, timeout)
            except (TimeoutError, BlockingIOError):
                pass  # what was cancelled for it says so in its future
            except (OSError, ValueError):
                if self._last is None:
                    raise
                # Another thread that waited for the same was faster, and has let go of everything.
        if threading.current_thread() is self._collector:
            self._collector_lets_go = True  # this is a callback, and there may be more results
            return
        self._collector.join()
        self._let_go()

    def terminate_workers(self) -> None:
        """End the pool without waiting: cancel what has not begun, and send SIGTERM to all workers.

        What runs fails with TaskLost when its worker has died of it, or is cancelled if it were tried again (``retries``) and no
        worker that lives on has begun it; a worker that handles SIGTERM otherwise finishes its task. As in Python 3.14.
        """
        if self._process is not _this_process:
            return
        self._over = True
        # What comes back from the dead is cancelled, and nobody comes who would do it.
        cancel = self._workers.instead = functools.partial(_cancel_queued, self._core, self._futures)
        try:
            cancel()
            for worker in self._core.statistics()["workers"]:
                with contextlib.suppress(OSError):  # it is gone already, or has become another user's
                    os.kill(worker["pid"], signal.SIGTERM)
        except ValueError:
            return  # another thread was faster
        self.shutdown(wait=False, cancel_futures=True)

    def kill_workers(self) -> None:
        """End the pool without waiting: cancel everything, what runs too, and kill all workers. As in Python 3.14, but for the
        futures of what runs, which are cancelled instead of broken."""
        self.shutdown(wait=False, cancel_futures=True, timeout=0)

    def _let_go(self) -> None:
        """Of everything, once."""
        with self._letting_go:
            _alive.discard(self)
            if self._last is None:
                self._last = self._core.statistics()
                self._core.close()
            if self._writer.fd >= 0:
                self._workers.close()
                self._writer.close()
                self._writer.fd = -1
                self._given = None

    def __reduce__(self) -> Any:
        raise TypeError("a pool cannot be pickled: it belongs to the process that made it")


def _collect(pool: "weakref.ref[ProcessPool]", core: Any, futures: Dict[int, TaskFuture]) -> None:
    # Each future of `futures` has the pool: it is not forgotten while one of its tasks has no verdict.
    while True:
        found = core.collect(_BATCH, None)
        owner = pool()
        if owner is None:
            return
        if not found:
            if owner._collector_lets_go:
                owner._let_go()
            return
        owner._take_in(found)
        if len(found) < _BATCH:
            owner._workers.collected += 1
        del owner, found


def _cancel_queued(core: Any, futures: Dict[int, TaskFuture]) -> None:
    for number in list(futures):
        core.cancel(number, False)


def _forgotten(core: Any, workers: _Workers, writer: Writer) -> None:
    def end() -> None:
        core.shutdown(True, None)
        if writer.fd >= 0:
            workers.close()
            writer.close()
            writer.fd = -1

    if writer.fd >= 0:
        threading.Thread(target=end, daemon=True).start()


_alive: "weakref.WeakSet[ProcessPool]" = weakref.WeakSet()


def _at_exit() -> None:
    raised: Optional[BaseException] = None
    for pool in list(_alive):
        try:
            pool.shutdown()
        except BaseException as error:
            raised = error  # the others have to end all the same
    if raised is not None:
        raise raised


# Before threads are joined, where Python has a place for that, as concurrent.futures does it.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
