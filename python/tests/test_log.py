"""Logs, and the handler of logging on top."""

import asyncio
import copy
import errno
import json
import logging
import logging.config
import logging.handlers
import multiprocessing
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag
import wigwag.log


@pytest.fixture
def place(tmp_path):
    """A directory for a log: its address and file."""

    class Place:
        file = tmp_path / "the.log"
        name = f"log:{tmp_path}/shared"
        address = f"{name}?file={file}"

        def lines(self):
            text = self.file.read_text()
            assert text == "" or text.endswith("\n")
            return text.splitlines()

        def messages(self):
            return [line.split(": ", 1)[1] for line in self.lines()]

        def records(self):
            return [json.loads(line) for line in self.lines()]

    yield Place()


@pytest.fixture
def logger(fresh):
    """A logger of its own, whose handlers are closed in the end."""
    made = logging.getLogger(fresh("logger"))
    made.setLevel(logging.DEBUG)
    made.propagate = False
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)
        handler.close()


def handler_of(logger, *args, **options):
    handler = wigwag.log.Handler(*args, **options)
    logger.addHandler(handler)
    return handler


def forked(body):
    """Runs it in a child, which ends by _exit."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)  # should the test fail
            body()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
        finally:
            os._exit(1)
    return pid


def ended_well(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- the log ---

def test_a_record_has_all_that_was_given(place):
    with wigwag.Log.open(place.address, format="json") as log:
        before = time.time()
        log.log("warn", "two\nlines", target="net", source="a.py", line=7,
                fields={"n": -3, "big": 2**64 - 1, "huge": 2**70, "share": 0.5, "yes": True, "no": None, 5: "five", "u": "\udc80"})
        log.drain(GENEROUS)
        record, = place.records()
        assert record["level"] == "warn" and record["message"] == "two\nlines" and record["target"] == "net"
        assert (record["file"], record["line"], record["pid"]) == ("a.py", 7, os.getpid())
        assert record["tid"] == threading.get_native_id()
        assert record["fields"]["u"] and set(record["fields"]["u"]) == {"\ufffd"}
        del record["fields"]["u"]
        assert record["fields"] == {
            "n": -3, "big": 2**64 - 1, "huge": str(2**70), "share": 0.5, "yes": True, "no": "None", "5": "five"
        }
        assert record["time"][:19] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
        while log.statistics().writer is None:  # who drains it himself was the writer for that long only
            time.sleep(0.001)
        seen = log.statistics()
        assert (seen.written, seen.queued, seen.dropped, seen.trouble, seen.level) == (1, 0, 0, 0, "info")
        assert seen.writer == os.getpid() and len(seen.participants) == 1 and "written=1" in repr(seen)
        assert log.file == place.file and log.largest == 4000 and log.address == place.address
        log.check()
    wigwag.Log.remove(place.name)
    with pytest.raises(FileNotFoundError):
        wigwag.Log.remove(place.name)


def test_the_level_holds_for_all_processes(place):
    with wigwag.Log.open(place.address) as log:
        assert log.level == "info" and not log.is_enabled("debug") and not log.is_enabled(logging.DEBUG)
        log.log("debug", "not yet")
        program = f"import wigwag; wigwag.Log.open({place.name!r}, writer='never').level = 10"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        assert log.level == "debug"
        for level in ("trace", "debug", "info", "warning", "critical", 5, 10, 60):
            log.log(level, str(level))
        log.level = "off"
        log.log("fatal", "not any more")
        log.drain(GENEROUS)
        assert place.messages() == ["debug", "info", "warning", "critical", "10", "60"]
        with pytest.raises(ValueError, match="level must be"):
            log.level = "loud"
        with pytest.raises(TypeError):
            log.level = None


def test_options_are_checked(place):
    with pytest.raises(OSError, match="add file=") as caught:
        wigwag.Log.open(place.name)
    assert caught.value.errno == errno.EINVAL
    for wrong in ({"format": "xml"}, {"full": "maybe"}, {"writer": "me"}, {"sync": "often"}, {"sync": 0}, {"sync": -1.0},
                  {"sync": float("nan")}, {"timeout": -1}, {"wait": "long"}):
        with pytest.raises(ValueError):
            wigwag.Log.open(place.address, **wrong)
    with wigwag.Log.open(place.name, place.file, sync=0.5, format="logfmt", rotate_size=1 << 20):
        with pytest.raises(OSError, match="format=Logfmt, and not format=Json"):
            wigwag.Log.open(place.address, format="json")


def test_a_handler_that_cannot_be_made_leaves_nothing_to_logging(place):
    with pytest.raises(OSError, match="add file=") as caught:
        wigwag.log.Handler(place.name)
    # The exception keeps what was half made, which logging would flush and close at the end.
    known = [reference() for reference in logging._handlerList]
    assert not [one for one in known if isinstance(one, wigwag.log.Handler) and not hasattr(one, "log")]
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="Unknown level"):
        wigwag.log.Handler(place.name, "LOUD", file=place.file)


def test_no_room(place):
    options = {"capacity": 8192, "writer": "never"}
    with wigwag.Log.open(place.address, timeout=SHORT, **options) as log, \
            wigwag.Log.open(place.name, full="drop", writer="never") as dropping:
        logged = 0
        with pytest.raises(TimeoutError):
            while True:
                log.log("info", "x" * 1000)
                logged += 1
        with pytest.raises(BlockingIOError):
            dropping.log("info", "x" * 1000)
        assert log.statistics().dropped == 2
        with pytest.raises(OSError) as caught:
            wigwag.Log.remove(place.name)
        assert caught.value.errno == errno.EBUSY
        log.drain(GENEROUS)
        log.log("info", "there is room again")
        log.drain(GENEROUS)
        messages = place.messages()
        assert len(messages) == logged + 2 and messages[-1] == "there is room again" and "2" in messages[-2]


def test_a_writer_of_its_own(place):
    with wigwag.Log.open(place.address, writer="never") as log:
        served = []
        thread = threading.Thread(target=lambda: served.append(wigwag_canceled(log.serve)))
        log.log("info", "first")
        thread.start()
        log.drain(GENEROUS)
        assert place.messages() == ["first"]
        os.rename(place.file, str(place.file) + ".1")
        log.reopen(GENEROUS)
        assert place.messages() == []
        log.close()
        thread.join()
        assert served == [errno.ECANCELED]


def wigwag_canceled(call):
    try:
        call()
    except OSError as error:
        return error.errno


def test_asyncio(place):
    async def use(log):
        log.log("info", "one")
        await log.drain_async(GENEROUS)
        assert place.messages() == ["one"]
        os.rename(place.file, str(place.file) + ".1")
        await log.reopen_async(GENEROUS)
        assert place.messages() == []

    with wigwag.Log.open(place.address) as log:
        asyncio.run(use(log))


def test_pickled_as_its_address(place):
    with wigwag.Log.open(place.address, full="drop", writer="never") as log, pickle.loads(pickle.dumps(log)) as other:
        other.log("info", "by another")
        assert other.address == place.address
        log.drain(GENEROUS)
        assert place.messages() == ["by another"]


def test_one_of_a_relative_file_pickles_from_any_directory(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with wigwag.Log.open(f"{place.name}?file=the.log&keep=3") as log:
        pickled = pickle.dumps(log)
        monkeypatch.chdir("/")
        with pickle.loads(pickled) as other:
            assert other.file == log.file == place.file and other.address == log.address


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_crashes_are_logged(place, name):
    program = f"""if 1:
        import ctypes, os, resource, wigwag
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        log = wigwag.Log.open({place.address!r})
        log.log_crashes()
        os.abort() if {name!r} == "SIGABRT" else ctypes.string_at(8)
    """
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, timeout=60)
    assert done.returncode == -getattr(signal, name)
    assert b"Fatal Python error" in done.stderr  # what was there before goes on working
    with wigwag.Log.open(place.name) as log:
        log.drain(GENEROUS)
    message, = place.messages()
    assert f"name={name}" in message and (name == "SIGABRT" or message.endswith("address=8"))


# --- the handler ---

def test_what_a_record_becomes(place, logger):
    handler = handler_of(logger, place.address, format="json", fields=("threadName", "funcName"))
    logger.warning("%d of %s", 3, "four", extra={"user": "u", "n": 1, "ok": False})
    handler.flush()
    record, = place.records()
    assert record["message"] == "3 of four" and record["level"] == "warn" and record["target"] == logger.name
    assert record["file"] == os.path.abspath(__file__) and record["line"] > 0
    assert (record["pid"], record["tid"]) == (os.getpid(), threading.get_native_id())
    assert record["fields"] == {
        "threadName": "MainThread", "funcName": "test_what_a_record_becomes", "user": "u", "n": 1, "ok": False
    }
    assert abs(time.mktime(time.strptime(record["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())) < 120
    assert "the.log" in repr(handler) and "closed" not in repr(handler)


def test_levels(place, logger):
    handler = handler_of(logger, place.address, level="DEBUG")
    handler.log.level = "trace"
    for level in (5, 10, 20, 25, 30, 40, 50, 60):
        logger.log(level, "of %d", level)
    handler.log.level = "error"
    logger.warning("kept out by the log")
    handler.setLevel(logging.CRITICAL)
    logger.error("kept out by the handler")
    handler.flush()
    levels = [line.split()[1] for line in place.lines()]
    assert levels == ["DEBUG", "INFO", "INFO", "WARN", "ERROR", "FATAL", "FATAL"]


def test_tracebacks(place, logger):
    handler = handler_of(logger, place.address)
    other = logging.StreamHandler(open(os.devnull, "w"))
    logger.addHandler(other)
    try:
        raise KeyError("the key")
    except KeyError:
        logger.exception("it failed", extra={"n": 1})
        logger.info("here", stack_info=True)
    logger.error("without", exc_info=True)
    handler.flush()
    other.stream.close()
    text = place.file.read_text()
    assert re.search(r": it failed\n\tTraceback \(most recent call last\):\n\t  File .*\n\tKeyError: 'the key' n=1\n", text, re.S)
    assert re.search(r": here\n\tStack \(most recent call last\):\n", text)
    assert "NoneType: None" in text


def test_a_long_traceback_keeps_its_end(place, logger):
    handler = handler_of(logger, place.address, format="json", largest=1500)

    def deeper(n):
        if n == 0:
            raise ValueError("ü" * 100 + "the end of it")
        (deeper if n % 2 else lambda n: deeper(n))(n - 1)  # frames that differ, so that none are left out by traceback

    try:
        deeper(50)
    except ValueError:
        logger.exception("it failed")
    handler.flush()
    record, = place.records()
    assert record["message"].startswith("it failed\nTraceback") and record["message"].endswith("the end of it")
    assert "bytes left out" in record["message"] and "cut" not in record


def test_with_a_formatter_and_a_filter(place, logger):
    handler = handler_of(logger, place.address)
    handler.setFormatter(logging.Formatter("<%(levelname)s %(message)s>"))
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.info("a %s", "b")
    logger.info("a secret")
    handler.handle(of("not even formatted: %d", "no number", level=logging.DEBUG))
    if sys.version_info >= (3, 12):
        def replaced(record):
            other = copy.copy(record)
            other.msg, other.args = "replaced", ()
            return other
        handler.addFilter(replaced)
        logger.info("a %s", "b")
    handler.flush()
    expected = ["<INFO a b>"] + (["<INFO replaced>"] if sys.version_info >= (3, 12) else [])
    assert place.messages() == expected


def test_errors_go_to_handle_error(place, logger, capsys):
    handler = handler_of(logger, place.address)
    failed = []
    handler.handleError = failed.append
    handler.handle(of("%d", "no number"))
    bad = of("fine")
    bad.bad = Unprintable()
    handler.handle(bad)
    handler.handle(of("%s", Blocks()))
    handler.flush()
    assert [record.msg for record in failed] == ["%d", "%s"]
    assert place.messages() == ["fine bad=\"<RuntimeError: no>\""], "one field that cannot be told is no loss of the rest"


def test_what_comes_after_close_is_logged_all_the_same(place, logger, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    handler = handler_of(logger, f"{place.name}?file=the.log&keep=3", fields=("threadName",))
    failed = []
    handler.handleError = failed.append
    handler.close()
    monkeypatch.chdir("/")
    logger.info("late")
    handler.setFormatter(logging.Formatter("and %(message)s"))
    logger.info("later")
    logger.debug("not enabled")
    assert place.messages() == ["late threadName=MainThread", "and later threadName=MainThread"] and not failed
    handler.close()
    handler.flush()
    wigwag.Log.remove(place.name)


def of(message, *args, level=logging.INFO):
    """A record past pytest's own handler, which formats everything."""
    return logging.LogRecord("n", level, "p", 1, message, args, None)


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


class Blocks:
    def __str__(self):
        raise BlockingIOError(errno.EAGAIN, "of a value's own")


def test_the_handler_without_room(place, logger):
    """It drops in silence, or holds a program up no longer than its timeout."""
    options = {"capacity": 8192, "writer": "never"}
    handler = handler_of(logger, place.address, full="drop", **options)
    failed = []
    handler.handleError = lambda record: failed.append(sys.exc_info()[0])
    for n in range(100):
        logger.info("%0100d", n)
    dropped = handler.log.statistics().dropped
    assert 0 < dropped < 100 and not failed

    async def log_one():
        waiting = wigwag.log.Handler(place.name, timeout=SHORT, writer="never")
        waiting.handleError = handler.handleError
        waiting.handle(of("x" * 1000))
        waiting.close()

    asyncio.run(log_one())
    assert failed == [TimeoutError] and handler.log.statistics().dropped == dropped + 1
    handler.flush()
    logger.info("and on")
    handler.flush()
    assert len(place.lines()) == 100 - dropped + 2


def test_flush_tells_why_it_cannot(place, logger):
    place.file.mkdir()
    handler = handler_of(logger, place.address, flush_timeout=GENEROUS)
    logger.info("kept")
    with pytest.raises(OSError, match="no plain file|cannot be written"):
        handler.flush()
    place.file.rmdir()
    deadline = time.monotonic() + GENEROUS
    while True:
        try:
            handler.flush()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "kept" in place.messages()


def test_records_that_come_over_a_queue_say_where_they_are_from(place, logger):
    handler = handler_of(logger, place.address, format="json")
    record = of("m")
    record.process, record.created = 4711, 1e9
    handler.handle(record)
    passed_on = queue.Queue()
    listener = logging.handlers.QueueListener(passed_on, handler)
    listener.start()
    listener.queue.put(of("m"))
    listener.stop()
    handler.flush()
    first, second = place.records()
    assert (first["pid"], first["tid"], first["time"]) == (4711, 0, "2001-09-09T01:46:40.000000000Z")
    assert (second["pid"], second["tid"]) == (os.getpid(), 0)


DICT_CONFIG = """
import logging.config
logging.config.dictConfig({{
    "version": 1,
    "formatters": {{"short": {{"format": "%(message)s!"}}}},
    "handlers": {{
        "app": {{"class": "wigwag.log.Handler", "address": {address!r}, "level": "INFO", "timeout": 5, "formatter": "short"}}
    }},
    "root": {{"level": "DEBUG", "handlers": ["app"]}},
}})
logging.debug("no")
logging.info("yes")
"""


def test_dict_config(place):  # in a process of its own: it closes all handlers that there are, pytest's too
    program = DICT_CONFIG.format(address=place.address)
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
    assert place.messages() == ["yes!"]


def test_threads(place, logger):
    handler = handler_of(logger, place.address)
    threads = [threading.Thread(target=lambda n=n: [logger.info("%d %d", n, k) for k in range(200)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()
    check_order(place.messages(), 4, 200)


def check_order(messages, sources, each):
    """Each record once, and in order for each that logged."""
    found = {str(n): [] for n in range(sources)}
    for message in messages:
        source, number = message.split()
        found[source].append(int(number))
    for numbers in found.values():
        assert numbers == list(range(each))


def test_four_processes_into_one_file(place, logger):
    handler = handler_of(logger, place.address)

    def child(n):
        if n % 2:  # by a handler of its own, or by the one that it inherited
            logger.removeHandler(handler)
            handler_of(logger, place.address)
        for k in range(500):
            logger.info("%d %d", n, k)
        for each in logger.handlers:
            each.close()

    children = [forked(lambda n=n: child(n)) for n in range(4)]
    assert all([ended_well(pid) for pid in children])
    handler.flush()
    check_order(place.messages(), 4, 500)


def of_another_process(handler, n):
    logger = logging.getLogger(f"wwpytest.process{n}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    for k in range(100):
        logger.info("%d %d", n, k)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(place, logger, method, multiprocessing_helpers):
    handler = handler_of(logger, place.address, timeout=GENEROUS)
    handler.setFormatter(logging.Formatter("%(message)s"))
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=of_another_process, args=(handler, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(GENEROUS)
        assert worker.exitcode == 0
        worker.close()
    handler.flush()
    check_order(place.messages(), 2, 100)


def test_a_handler_pickles_as_its_address(place, logger):
    handler = handler_of(logger, place.address, "INFO", fields=("threadName",), timeout=1.5)
    handler.setFormatter(logging.Formatter("%(message)s"))
    other = pickle.loads(pickle.dumps(handler))
    assert other.log.address == place.name and other.level == logging.INFO and other.formatter._fmt == "%(message)s"
    logger.addHandler(other)
    logger.info("twice")
    handler.flush()
    assert place.messages() == ["twice threadName=MainThread"] * 2


def test_a_handler_of_a_relative_file_pickles_from_any_directory(place, logger, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    handler = handler_of(logger, f"{place.name}?keep=3&file=the.log", "INFO")
    handler.name = "app"
    pickled = pickle.dumps(handler)
    monkeypatch.chdir("/")
    other = pickle.loads(pickled)
    assert other.log.file == place.file and other.log.address == f"{place.name}?keep=3" and other.name == "app"
    other.close()


@pytest.mark.parametrize("through", ["ring", "mq", "sysv-mq"])
@pytest.mark.parametrize("who", ["producer", "writer"])
def test_nothing_is_lost_when_one_is_killed(place, who, through):
    """What has been logged is in the file once, in order, when the process that logs is killed, or the one that writes."""
    place.address += f"&through={through}"
    writing, writes = os.pipe()
    # Who holds the log open first is the writer.
    writer = forked(lambda: serve(place, writes))
    os.close(writes)
    assert os.read(writing, 1) == b"w"
    os.close(writing)
    told, tell = os.pipe()
    producer = forked(lambda: log_numbers(place, tell, 100000 if who == "producer" else 3000))
    os.close(tell)
    seen = b""
    while seen.count(b"\n") < 1000:
        seen += os.read(told, 65536)
    os.kill(producer if who == "producer" else writer, signal.SIGKILL)
    while True:
        more = os.read(told, 65536)
        if not more:
            break
        seen += more
    os.close(told)
    if who == "writer":
        assert ended_well(producer)
    else:
        os.waitpid(producer, 0)
        os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    with wigwag.Log.open(place.name) as log:
        log.drain(GENEROUS)
        assert log.statistics().dropped == 0
    numbers = [int(message) for message in place.messages()]
    assert numbers == list(range(len(numbers)))
    # What was logged and not yet told is there too, or the process was killed in between.
    assert len(numbers) - seen.count(b"\n") in (0, 1)
    wigwag.Log.remove(place.name)  # a queue does not go with the directory


@pytest.mark.parametrize("through", ["mq", "sysv-mq"])
def test_through_a_queue(place, through, logger):
    """By option or by address; the log says what it is to those who come later."""
    handler = handler_of(logger, place.address, through=through)
    logger.info("by option")
    with wigwag.Log.open(f"{place.name}?through={through}") as log:
        log.log("info", "by address")
        log.drain(GENEROUS)
    with pytest.raises(OSError, match="and not through=Ring") as caught:
        wigwag.Log.open(place.name, through="ring")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="through must be"):
        wigwag.Log.open(place.name, through="pipe")
    assert place.messages() == ["by option", "by address"]
    logger.removeHandler(handler)
    handler.close()
    wigwag.Log.remove(place.name)


def serve(place, writes):
    with wigwag.Log.open(place.address, writer="elected") as log:
        log.drain(GENEROUS)
        os.write(writes, b"w")
        signal.pause()


def log_numbers(place, tell, count):
    logger = logging.getLogger("wwpytest.killed")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler_of(logger, place.address, writer="never" if count > 5000 else "elected")
    for n in range(count):
        logger.info("%d", n)
        os.write(tell, b"\n")
