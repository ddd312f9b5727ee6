"""Logging of all processes of a host into one file, by handlers of ``logging``.

``Handler`` hands records to a log in shared memory or in a message queue (``wigwag.Log``), which one of the processes writes to the file; no daemon
and no listener is needed, and nothing that has been logged is lost when a process is killed.
"""

import logging
import os
from typing import Any, Iterable, List, Optional, Type, Union

from ._wigwag import Address, Log

__all__ = ["Handler"]

#: What every record has (for wigwag._wigwag), and what formatters add: all else was given by the caller, as ``extra``.
_RECORD = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
_COUNT = len(_RECORD)
_USUAL = frozenset(_RECORD) | {"message", "asctime"}

_TRACEBACKS = logging.Formatter()
_LEFT_OUT = "\n… {} bytes left out …\n"


class Handler(logging.Handler):
    """Logs into a log that all processes share; by code, or in ``logging.config.dictConfig``::

        "handlers": {"app": {"class": "wigwag.log.Handler", "address": "log:app?file=/var/log/app.log"}}

    ``address`` and ``options`` are those of ``wigwag.Log.open``: ``timeout=0.1`` bounds how long a call may wait when there is no
    room, ``full="drop"`` never waits and has the file say how many records were dropped, as ``log.statistics()`` does. The
    handler's level is its own; that of ``log`` holds for all processes, and is ``"info"`` in a new log.

    A record becomes one of the log's, with its time, process, thread, level, name, source, message with traceback, and what was
    given as ``extra`` as fields; ``fields`` names attributes such as ``"threadName"`` that become fields too. With a formatter,
    what that gives is the message.

    ``flush()`` waits until all that was logged is in the file, for ``flush_timeout`` seconds at most. ``crashes`` has signals
    such as SIGSEGV logged. It can be used by threads, in children made by fork, and by event loops, which it holds up no longer
    than ``timeout``; it pickles as its address. What fails goes to ``handleError``, as with all handlers. As with
    ``logging.FileHandler``, what comes after ``close()`` is logged all the same: the log is opened for it, and drained.
    """

    def __init__(
        self,
        address: Union[str, Address],
        level: Union[int, str] = logging.NOTSET,
        *,
        fields: Iterable[str] = (),
        flush_timeout: Optional[float] = 5.0,
        crashes: bool = False,
        **options: Any,
    ) -> None:
        self.log = Log.open(address, **options)
        #: By which others, and later ones, come to the same log, also from another directory.
        self._address, self._options = _apart(self.log.address), {**options, "file": os.fspath(self.log.file)}
        try:
            if crashes:
                self.log.log_crashes()
            super().__init__(level)  # which has logging flush and close this at the end
        except BaseException:
            self.log.close()
            raise
        self.flush_timeout = flush_timeout
        self._fields = tuple(fields)
        self._crashes = crashes
        self._log_record = self.log.log_record

    def handle(self, record: logging.LogRecord) -> bool:
        """As every handler, but without its lock: several threads may log at once."""
        if self.filters:
            passed: Any = self.filter(record)
            if not passed:
                return False
            if isinstance(passed, logging.LogRecord):  # since Python 3.12
                record = passed
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record. Once it has returned, the record is lost by nobody's death."""
        try:
            if self.formatter is None:
                self._log_record(record, None, self._fields)
            elif self.log.is_enabled(record.levelno):
                self._log_record(record, self.format(record), self._fields)
        except Exception:
            self._emit_late(record)

    def _emit_late(self, record: logging.LogRecord) -> None:
        """As ``logging.FileHandler``, which opens its file again: what a program says after ``logging.shutdown``. Called while an
        exception is handled, so that nobody else pays for it."""
        try:
            if not self.log.closed:
                raise
            with Log.open(self._address, **{**self._options, "writer": "never"}) as log:
                if log.is_enabled(record.levelno):
                    log.log_record(record, None if self.formatter is None else self.format(record), self._fields)
                    log.drain(self.flush_timeout)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all that was logged, by whatever process, is in the file. Raises OSError if it cannot be written at
        present, and TimeoutError; what was logged is kept until it can be."""
        if not self.log.closed:
            self.log.drain(self.flush_timeout)

    def close(self) -> None:
        """Close the log; writes what is there if nobody else does."""
        self.log.close()
        super().close()

    def __reduce__(self) -> Any:
        own = {"fields": self._fields, "flush_timeout": self.flush_timeout, "crashes": self._crashes, **self._options}
        return _again, (type(self), self._address, self.level, own, self.formatter, list(self.filters), self.name)

    def __repr__(self) -> str:
        where = "closed" if self.log.closed else self.log.address
        return f"<wigwag.log.{type(self).__name__} {where} ({logging.getLevelName(self.level)})>"


def _again(
    kind: Type[Handler], address: str, level: int, options: Any, formatter: Any, filters: List[Any], name: Optional[str]
) -> Handler:
    handler = kind(address, level, **options)
    handler.name = name
    handler.setFormatter(formatter)
    for each in filters:
        handler.addFilter(each)
    return handler


def _apart(address: str) -> str:
    """An address without its file."""
    name, _, options = address.partition("?")
    left = "&".join(option for option in options.split("&") if not option.startswith("file="))
    return f"{name}?{left}" if left else name


def _with_traceback(record: logging.LogRecord, message: str, room: int) -> str:
    """What `logging.Formatter` makes of them, for `wigwag._wigwag`. A traceback for which there is no room is cut in its middle:
    its end tells most."""
    if record.exc_info and not record.exc_text:
        record.exc_text = _TRACEBACKS.formatException(record.exc_info)
    texts = [text for text in (record.exc_text, record.stack_info) if text]
    if not texts:
        return message
    more = "\n".join(texts).encode("utf-8", "backslashreplace")
    most = max(room - len(message.encode("utf-8", "replace")) - 1, room // 2) - len(_LEFT_OUT.encode()) - 10
    if len(more) > most > 0:
        head = most // 3
        tail = most - head
        between = _LEFT_OUT.format(len(more) - most)
        return message + "\n" + more[:head].decode(errors="ignore") + between + more[-tail:].decode(errors="ignore")
    return message + "\n" + more.decode()
