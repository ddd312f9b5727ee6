"""What belongs to no mechanism: names, stubs, addresses, cancellation, Ctrl-C."""

import errno
import inspect
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS

import wigwag

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_name_exists_and_is_documented():
    for name in wigwag.__all__:
        value = getattr(wigwag, name)
        if inspect.isclass(value):
            assert value.__doc__, name
            assert "\n--\n" not in value.__doc__ and not value.__doc__.startswith(f"{name}("), "the signature is apart"
            assert value.__module__ == "wigwag", name
            for method_name, method in vars(value).items():
                if not method_name.startswith("_") and callable(method):
                    assert method.__doc__, f"{name}.{method_name}"


def test_readme(multiprocessing_helpers):
    text = (ROOT / "README.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert examples
    for example in examples:
        exec(example, {})


def test_stubs_match_the_build(tmp_path):  # where mypy leaves its cache
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "wigwag", "--ignore-missing-stub", "--ignore-unused-allowlist",
         "--allowlist", pathlib.Path(__file__).with_name("stubtest_allowlist.txt"),
         "--mypy-config-file", pathlib.Path(__file__).with_name("stubtest.ini")],
        capture_output=True, text=True, timeout=50, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_address_table():
    table = (ROOT / "tests/address_examples.tsv").read_text(encoding="utf-8")
    counts = {"valid": 0, "invalid": 0}
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        kind, text, *rest = line.split("\t")
        counts[kind] += 1
        if kind == "valid":
            address = wigwag.Address(text)
            assert str(address) == (rest[0] if rest else text)
            assert wigwag.Address(str(address)) == address
            assert pickle.loads(pickle.dumps(address)) == address
            assert hash(address) == hash(wigwag.Address(text))
        else:
            with pytest.raises(OSError) as caught:
                wigwag.Address(text)
            assert errno.errorcode[caught.value.errno] == rest[0]
            assert f"at byte {rest[1]}: expected" in caught.value.strerror
            assert rest[2] in caught.value.strerror
    assert min(counts.values()) >= 30


def test_address_parts():
    address = wigwag.Address("sysv-mq:progfile#65?mode=600")
    assert (address.scheme, address.name, address.id) == ("sysv-mq", b"progfile", 65)
    assert address.options == {"mode": b"600"}
    assert repr(address) == 'wigwag.Address("sysv-mq:progfile#65?mode=600")'


def test_paths_are_named():
    with wigwag.Pipe.open()[1]:
        pass
    assert "write without SIGPIPE" in wigwag.paths()


def test_cancel_from_another_thread():
    cancel = wigwag.Cancel()
    assert not cancel.fired
    with wigwag.EventFd() as events:
        thread = threading.Timer(0.01, cancel.fire)
        thread.start()
        with cancel, pytest.raises(OSError) as caught:
            events.take()
        assert caught.value.errno == errno.ECANCELED
        thread.join()
        with pytest.raises(BlockingIOError):
            events.take(timeout=0)
        cancel.reset()
        assert not cancel.fired


CTRL_C = """
import signal, sys, wigwag
signal.signal(signal.SIGINT, signal.default_int_handler)
events = wigwag.EventFd()
print("waiting", flush=True)
try:
    events.take(timeout=30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_a_wait():
    process = subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "waiting\n"
        while f"\nState:\tS" not in pathlib.Path(f"/proc/{process.pid}/status").read_text():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def test_signal_handler_runs_and_the_wait_goes_on():
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append("handler"))
    try:
        with wigwag.EventFd() as events:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                events.take(timeout=0.1)
            assert time.monotonic() - start >= 0.1
            assert seen == ["handler"]
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("bad", [-1, float("nan"), -0.5])
def test_bad_timeouts(bad):
    with wigwag.EventFd() as events, pytest.raises(ValueError, match="timeout"):
        events.take(timeout=bad)


def test_endless_timeout_is_for_ever():
    with wigwag.EventFd(initial=1) as events:
        assert events.take(timeout=float("inf")) == 1


#: How to make one of each class that can be closed; NAME is a fresh name, DIR a directory.
CLOSABLE = {
    "EventFd": lambda name, path: wigwag.EventFd(),
    "Pipe": lambda name, path: wigwag.Pipe.open()[0],
    "Fifo": lambda name, path: wigwag.Fifo.open_reader(f"fifo:{path}/f", keep_open=True, create=True),
    "File": lambda name, path: wigwag.File.open(f"file:{path}/x", create="if-missing"),
    "FileWatch": lambda name, path: wigwag.FileWatch(f"file:{path}/x", wigwag.FileWatch.APPEARED),
    "Mapping": lambda name, path: mapped(path),
    "Socket": lambda name, path: wigwag.Socket.pair()[0],
    "Listener": lambda name, path: wigwag.Listener("tcp://127.0.0.1:0"),
    "Signals": lambda name, path: wigwag.Signals("USR2"),
    "SignalAction": lambda name, path: wigwag.SignalAction.ignore("USR2"),
    "SignalTarget": lambda name, path: wigwag.SignalTarget(f"signal:USR2@{os.getpid()}"),
    "Shutdown": lambda name, path: wigwag.Shutdown("USR2"),
    "SysvShm": lambda name, path: removed(wigwag.SysvShm.create("sysv-shm:private", 4096)),
    "Shm": lambda name, path: removed(wigwag.Shm.create(f"shm:/{name}", 4096)),
    "Memfd": lambda name, path: wigwag.Memfd.create(4096),
    "SysvMq": lambda name, path: removed(wigwag.SysvMq.create("sysv-mq:private")),
    "Mq": lambda name, path: without_name(wigwag.Mq, f"mq:/{name}"),
    "SysvSem": lambda name, path: removed(wigwag.SysvSem.create("sysv-sem:private")),
    "Sem": lambda name, path: without_name(wigwag.Sem, f"sem:/{name}"),
    "Cell": lambda name, path: wigwag.Cell.anonymous(),
    "Topic": lambda name, path: wigwag.Topic.anonymous(),
    "Subscription": lambda name, path: wigwag.Topic.anonymous().subscribe(),
    "RingProducer": lambda name, path: wigwag.RingProducer.anonymous()[0],
    "RingConsumer": lambda name, path: wigwag.RingProducer.anonymous()[1],
    "Ring": lambda name, path: wigwag.Ring.anonymous(),
    "Channel": lambda name, path: wigwag.Channel.open_receiver("unix-seqpacket:" + str(path / "channel")),
    "Caller": lambda name, path: wigwag.Caller(f"ring:{path}/questions"),
    "Server": lambda name, path: wigwag.Server(f"unix:@{name}"),
    "Condition": lambda name, path: wigwag.Condition.anonymous(wigwag.Mutex.anonymous()),
    "RwLock": lambda name, path: wigwag.RwLock.anonymous(),
    "Mutex": lambda name, path: wigwag.Mutex.anonymous(),
    "Permits": lambda name, path: wigwag.Permits.anonymous(),
    "Event": lambda name, path: wigwag.Event.anonymous(),
    "Barrier": lambda name, path: wigwag.Barrier.anonymous(),
    "Log": lambda name, path: wigwag.Log.open(f"log:{path}/log?file={path}/file", writer="never"),
    "LeasePool": lambda name, path: wigwag.LeasePool.anonymous(),
    "WaitSet": lambda name, path: wigwag.WaitSet(),
}


def mapped(path):
    with wigwag.File.open(f"file:{path}/x", create="if-missing") as file:
        file.grow(4096)
        return file.map()


def removed(thing):
    thing.unlink()
    return thing


def without_name(kind, address):
    made = kind.create(address)
    kind.remove(address)
    return made


def test_every_closable_class_is_tried():
    closable = {name for name in wigwag.__all__ if hasattr(getattr(wigwag, name), "close")}
    assert closable == set(CLOSABLE)


@pytest.mark.parametrize("name", CLOSABLE)
def test_close_and_after(name, fresh, tmp_path):
    thing = CLOSABLE[name](fresh("close"), tmp_path)
    kind = type(thing)
    assert repr(thing).startswith(f"<wigwag.{name}"), repr(thing)
    assert thing.closed is False
    thing.close()
    thing.close()
    assert thing.closed is True
    assert "closed" in repr(thing)
    # What needs no argument, and so is not stopped by a missing one, says that the object is closed.
    tried = 0
    for attribute in vars(kind):
        if attribute.startswith("_") or attribute in ("close", "closed", "address") or attribute.isupper():
            continue
        if isinstance(vars(kind)[attribute], staticmethod):
            continue
        try:
            value = getattr(thing, attribute)
            if not callable(value):
                assert False, f"{name}.{attribute} works on a closed object: {value!r}"
            value() if not attribute.endswith("_async") else None
        except TypeError as missing:
            assert "missing" in str(missing), (attribute, missing)
        except ValueError as error:
            assert "closed" in str(error), (attribute, error)
            tried += 1
        else:
            assert attribute.endswith("_async"), f"{name}.{attribute}() works on a closed object"
    assert tried or name == "SignalAction"


@pytest.mark.parametrize("wrong", [42, b"pipe:", None])
@pytest.mark.parametrize("call", [
    wigwag.Address, wigwag.Fifo.create, wigwag.Fifo.open_reader, wigwag.File.open, wigwag.File.remove, wigwag.Listener,
    wigwag.Mq.open, wigwag.Mq.remove, wigwag.Sem.open, wigwag.Shm.open, wigwag.Socket.connect, wigwag.Socket.bind,
    wigwag.SysvMq.open, wigwag.SysvMq.remove, wigwag.SysvSem.open, wigwag.SysvShm.open, wigwag.Cell.open,
    wigwag.Ring.open, wigwag.Topic.open, wigwag.Mutex.open, wigwag.Channel.open_sender, wigwag.Caller, wigwag.Server,
    wigwag.Permits.remove, wigwag.LeasePool.open, wigwag.Log.open, wigwag.Log.remove, wigwag.Event.open, wigwag.Barrier.open,
])
def test_an_address_is_text(call, wrong):
    with pytest.raises(TypeError):
        call(wrong)


def test_addresses_as_objects(tmp_path):
    address = wigwag.Address(f"fifo:{tmp_path}/f")
    wigwag.Fifo.create(address)
    wigwag.Fifo.remove(address)
    with pytest.raises(FileNotFoundError) as caught:
        wigwag.Fifo.remove(address)
    assert caught.value.filename == str(address)


def test_a_signal_handler_may_close_what_its_thread_waits_for():
    events = wigwag.EventFd()
    before = signal.signal(signal.SIGALRM, lambda *_: events.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises((OSError, ValueError)) as caught:
            events.take(timeout=GENEROUS)
        assert getattr(caught.value, "errno", errno.ECANCELED) == errno.ECANCELED
        assert events.closed
    finally:
        signal.signal(signal.SIGALRM, before)
