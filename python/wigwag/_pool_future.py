"""The future of a task of a pool: decided without a lock until somebody waits for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future, _base
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from .pool import ProcessPool as _ProcessPool

_OPEN = (_base.PENDING, _base.RUNNING)


class TaskFuture(Future):  # type: ignore[type-arg]
    """The future of a task: one of concurrent.futures, which can also end a task that runs."""

    _pool: Optional[_ProcessPool] = None
    _number = 0
    _block: Optional[int] = None
    _state = _base.PENDING
    _result: Any = None
    _exception: Optional[BaseException] = None

    # What the base class makes is made when somebody asks for it: most tasks of a burst end before that.
    __init__ = object.__init__

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if name == "_condition":
            claim = own.setdefault("_claim", threading.Condition())
            if type(claim) is tuple:  # it has ended, and whoever ends it may not have come to say so
                self._end(*claim)
                claim = threading.Condition()
            return own.setdefault(name, claim)
        if name in ("_waiters", "_done_callbacks"):
            return own.setdefault(name, [])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def result(self, timeout: Optional[float] = None) -> Any:
        """What the task returned; raises what it raised, what became of it, or TimeoutError after so many seconds."""
        if self._state == _base.FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)

    def _end(self, state: str, result: Any, error: Optional[BaseException]) -> None:
        self._result = result
        if error is not None:
            self._exception = error
        self._state = state  # last: whoever finds it finds the others

    def _settle(self, state: str, result: Any, error: Optional[BaseException]) -> None:
        """The end, once; whoever waits is told."""
        # Between who ends it and who begins to wait the first entry decides, without a lock. Once somebody waits there is
        # his, with all that concurrent.futures says of it.
        end = (state, result, error)
        claim = self.__dict__.setdefault("_claim", end)
        if claim is end:
            self._end(state, result, error)
            return
        if type(claim) is tuple:
            return
        with claim:
            if self._state not in _OPEN:
                return
            self._end(state, result, error)
            for waiter in self._waiters:
                if state != _base.FINISHED:
                    waiter.add_cancelled(self)
                elif error is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            claim.notify_all()
        self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        # As the base class does it, but for SystemExit and the like: those keep no other callback from its call.
        raised: Optional[BaseException] = None
        for callback in self._done_callbacks:
            try:
                callback(self)
            except Exception:
                _base.LOGGER.exception("exception calling callback for %r", self)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def cancel(self) -> bool:
        """Cancel the task unless it has begun; whether it is cancelled."""
        with self._condition:
            if self._state in (_base.CANCELLED, _base.CANCELLED_AND_NOTIFIED):
                return True
            if self._state == _base.FINISHED:
                return False
        pool = self._pool
        return pool is not None and pool._cancel(self, running=False)

    def kill(self) -> bool:
        """Cancel the task, also if it runs: its worker is killed for it, and replaced. Whether it is cancelled; in a callback of
        the pool, whether it is going to be."""
        pool = self._pool
        return not self.done() and pool is not None and pool._cancel(self, running=True)

    def running(self) -> bool:
        """Whether a worker has begun the task, and it has not ended."""
        pool = self._pool
        return not self.done() and pool is not None and pool._core.has_begun(self._number)
