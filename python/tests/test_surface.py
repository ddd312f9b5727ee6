"""What belongs to no mechanism: names, stubs, addresses, cancellation, Ctrl-C."""

import errno
import inspect
import os
import pathlib
import pickle
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
            assert value.__module__ == "wigwag", name
            for method_name, method in vars(value).items():
                if not method_name.startswith("_") and callable(method):
                    assert method.__doc__, f"{name}.{method_name}"


def test_stubs_match_the_build(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "wigwag", "--ignore-missing-stub", "--ignore-unused-allowlist",
         "--allowlist", pathlib.Path(__file__).with_name("stubtest_allowlist.txt")],
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
