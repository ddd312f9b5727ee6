"""Signals."""

import asyncio
import errno
import os
import pathlib
import pickle
import select
import signal
import subprocess
import sys
import threading

import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import Shutdown, Signal, SignalAction, SignalMask, Signals, SignalTarget

ROOT = pathlib.Path(__file__).resolve().parents[2]
RT = Signal("RTMIN+7")


def send_here(number, value=None):
    """To the calling thread: it has acted when this returns."""
    Signal(number).send_to_thread(os.getpid(), threading.get_native_id())


def in_child(body):
    """The wait status of a child that runs body and ends well, unless a signal ends it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(50)
            body()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def test_names_and_numbers():
    for text in ("USR1", "sigusr1", 10, signal.SIGUSR1, "10", Signal("USR1")):
        assert Signal(text) == signal.SIGUSR1
    assert (Signal("RTMIN+3").number, Signal("RTMAX").number) == (signal.SIGRTMIN + 3, signal.SIGRTMAX)
    usr1 = Signal("USR1")
    assert (usr1.name, str(usr1), repr(usr1), int(usr1)) == ("SIGUSR1", "SIGUSR1", 'wigwag.Signal("SIGUSR1")', 10)
    assert hash(usr1) == hash(10) and usr1 in {signal.SIGUSR1} and pickle.loads(pickle.dumps(usr1)) == usr1
    assert usr1 != "USR1" and usr1 < Signal("TERM") and not usr1.is_real_time and RT.is_real_time
    for known in signal.Signals:
        assert Signal(known.name) == known
    actions = [Signal(name).default_action for name in ("TERM", "SEGV", "CHLD", "STOP", "CONT")]
    assert actions == ["terminate", "core", "ignore", "stop", "continue"]
    for nonsense in ("USR3", "", 0, 65, -1, 10**30):
        with pytest.raises(OSError, match="no signal") as caught:
            Signal(nonsense)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(TypeError):
        Signal(1.5)


def test_take():
    with Signals(["USR1", signal.SIGUSR2, RT], capacity=100) as signals:
        assert signals.address == "signal:USR1,USR2,RTMIN+7" and signals.signals == (10, 12, RT)
        with pytest.raises(BlockingIOError):
            signals.take(timeout=0)
        with pytest.raises(TimeoutError):
            signals.take(timeout=SHORT)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert select.select([signals], [], [], GENEROUS)[0]
        info = signals.take()
        assert (info.signal, info.pid, info.uid, info.code) == (signal.SIGUSR2, os.getpid(), os.getuid(), 0)
        RT.send_value(os.getpid(), -3)
        info = signals.take(timeout=GENEROUS)
        assert (info.signal, info.value) == (RT, -3)
        assert "SIGRTMIN+7" in repr(info) and signals.lost == 0


def test_python_handlers_coexist():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with Signals("USR1") as signals:
            send_here("USR1")
            assert signals.take(timeout=GENEROUS).signal == signal.SIGUSR1
            assert seen == [signal.SIGUSR1]
        send_here("USR1")
        assert seen == [signal.SIGUSR1] * 2
        with Signals("USR1", chain=False) as signals:
            send_here("USR1")
            signals.take(timeout=GENEROUS)
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_pythons_own_sigint_handler_counts_as_none():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with Signals("signal:INT") as signals:
        send_here("INT")
        assert signals.take(timeout=GENEROUS).signal == signal.SIGINT
    with Signals("INT", chain=True) as signals:
        with pytest.raises(KeyboardInterrupt):
            send_here("INT")
            signals.take(timeout=0)
            signals.take(timeout=GENEROUS)
    with pytest.raises(KeyboardInterrupt):
        send_here("INT")
        signal.sigtimedwait([], GENEROUS)


def test_functions():
    seen = []
    with Signals(["USR1", "USR2"]) as signals:
        first = signals.on("USR1", lambda info: seen.append(("first", info.signal)))
        signals.on(signal.SIGUSR1, lambda info: seen.append(("second", info.signal)))
        with pytest.raises(BlockingIOError):
            signals.dispatch(timeout=0)
        send_here("USR1")
        send_here("USR2")
        assert signals.dispatch() == 2
        assert seen == [("first", 10), ("second", 10)]
        signals.off(first)
        with pytest.raises(FileNotFoundError):
            signals.off(first)
        send_here("USR1")
        assert signals.dispatch(timeout=GENEROUS) == 1
        assert seen[2:] == [("second", 10)]
        with pytest.raises(OSError, match="SIGHUP is not among"):
            signals.on("HUP", print)
        with pytest.raises(TypeError):
            signals.on("USR1", 5)


def test_exception_in_a_function():
    def fail(info):
        raise RuntimeError("on purpose")

    seen = []
    with Signals("USR1") as signals:
        signals.on("USR1", fail)
        signals.on("USR1", seen.append)
        send_here("USR1")
        with pytest.raises(RuntimeError, match="on purpose"):
            signals.dispatch(timeout=GENEROUS)
        assert len(seen) == 1


def test_dispatcher_thread(monkeypatch):
    done, unraisable = threading.Event(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: unraisable.append(what.exc_value))

    def function(info):
        if info.value == 0:
            raise RuntimeError("on purpose")
        done.set()

    with Signals(RT) as signals:
        signals.on(RT, function)
        signals.start()
        with pytest.raises(OSError) as caught:
            signals.start()
        assert caught.value.errno == errno.EALREADY
        RT.send_value(os.getpid(), 0)
        RT.send_value(os.getpid(), 1)
        assert done.wait(GENEROUS)
        assert [str(error) for error in unraisable] == ["on purpose"]
        signals.stop()
        send_here(RT)
        assert signals.take(timeout=GENEROUS).signal == RT
        signals.start()


def test_collected_without_close():
    signals = Signals(RT)
    signals.on(RT, lambda info: None)
    signals.start()
    RT.send_value(os.getpid(), 1)
    del signals


def test_a_function_may_close():
    signals = Signals("USR1")
    done = threading.Event()

    def function(info):
        with pytest.raises(OSError) as caught:
            signals.dispatch(timeout=0)
        assert caught.value.errno == errno.EDEADLK
        signals.close()
        done.set()

    signals.on("USR1", function)
    signals.start()
    send_here("USR1")
    assert done.wait(GENEROUS) and signals.closed


def test_refused():
    for number, words in [("KILL", "SIGKILL cannot be handled"), ("STOP", "SIGTSTP"), ("SEGV", "faulty instruction")]:
        with pytest.raises(OSError, match=words) as caught:
            Signals(number)
        assert caught.value.errno == errno.EINVAL and caught.value.filename == f"signal:{number}"
    with pytest.raises(OSError, match="name at least one"):
        Signals([])
    with pytest.raises(OSError, match="is for sending"):
        Signals("signal:USR1@12")
    with pytest.raises(TypeError):
        Signals(None)
    with pytest.raises(OSError, match="pipe-max-size"):
        Signals("USR1", capacity=2**40)
    with wigwag.EventFd() as never:
        with pytest.raises(TimeoutError):
            never.take(timeout=SHORT)
    refused = []
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
        try:
            Signals(number).close()
        except OSError as error:
            refused.append(error)
    assert [error.errno for error in refused] == [errno.EBUSY]
    assert "this library has taken" in refused[0].strerror


def test_closed():
    signals = Signals("USR1")
    assert repr(signals) == "<wigwag.Signals signal:USR1 lost=0>"
    signals.close()
    signals.close()
    assert signals.closed and repr(signals) == "<wigwag.Signals closed>"
    for call in (signals.take, signals.dispatch, signals.start, signals.stop, signals.fileno, lambda: signals.lost):
        with pytest.raises(ValueError, match="closed Signals"):
            call()


@pytest.mark.parametrize("method", ["take", "dispatch"])
def test_close_during_a_wait(method):
    signals, errors = Signals("USR1"), []

    def wait():
        try:
            getattr(signals, method)()
        except (OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    threading.Event().wait(0.02)
    signals.close()
    thread.join(GENEROUS)
    assert getattr(errors[0], "errno", None) == errno.ECANCELED or isinstance(errors[0], ValueError)


def test_cancel():
    cancel = wigwag.Cancel()
    with Signals("USR1") as signals, cancel:
        threading.Timer(0.01, cancel.fire).start()
        for wait in (signals.take, signals.dispatch, lambda: wigwag.wait_signal("USR2")):
            with pytest.raises(OSError) as caught:
                wait()
            assert caught.value.errno == errno.ECANCELED


def test_async():
    async def main():
        with Signals([RT, "USR1"]) as signals, Shutdown("USR2") as shutdown:
            waiting = asyncio.ensure_future(signals.take_async(timeout=GENEROUS))
            ending = asyncio.ensure_future(shutdown.wait_async())
            await asyncio.sleep(0)
            RT.send_value(os.getpid(), 5)
            assert (await waiting).value == 5
            seen = []
            signals.on("USR1", seen.append)
            send_here("USR1")
            assert await signals.dispatch_async(timeout=GENEROUS) == 1 and len(seen) == 1
            assert not ending.done()
            send_here("USR2")
            assert await ending == signal.SIGUSR2
            with pytest.raises(TimeoutError):
                await signals.take_async(timeout=SHORT)

    asyncio.run(main())


def test_wait_and_mask():
    def body():
        with SignalMask.block(["USR1", RT]) as mask:
            with pytest.raises(BlockingIOError):
                wigwag.wait_signal(["USR1", RT], timeout=0)
            with pytest.raises(TimeoutError):
                wigwag.wait_signal("USR1", timeout=SHORT)
            RT.send_value(os.getpid(), 9)
            send_here("USR1")
            assert wigwag.wait_signal(["USR1", RT]).signal == signal.SIGUSR1
            info = wigwag.wait_signal([RT], timeout=GENEROUS)
            assert (info.value, info.pid, info.uid) == (9, os.getpid(), os.getuid())
            assert "blocks" in repr(mask)
            with SignalMask.block("USR1"):
                pass
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGUSR1, int(RT)}
            with SignalMask.unblock("USR1"):
                assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {int(RT)}
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        with pytest.raises(OSError, match="SIGKILL"), SignalMask.block("KILL"):
            pass
        with pytest.raises(OSError, match="SIGSTOP"):
            wigwag.wait_signal("STOP", timeout=0)

    assert in_child(body) == 0


def test_ignore_and_default():
    def body():
        with SignalAction.ignore("TERM") as action:
            send_here("TERM")
            assert repr(action) == "<wigwag.SignalAction SIGTERM>"
        with Signals("TERM"), pytest.raises(OSError) as caught:
            SignalAction.ignore("TERM")
        assert caught.value.errno == errno.EBUSY
        assert action.closed
        signal.signal(signal.SIGTERM, lambda *_: None)
        action = SignalAction.default("TERM")
        send_here("TERM")

    assert os.WTERMSIG(in_child(body)) == signal.SIGTERM


def test_shutdown():
    cancel = wigwag.Cancel()
    with Shutdown(cancel=cancel) as shutdown:
        assert shutdown.requested is None and shutdown.address == "signal:TERM,INT"
        with pytest.raises(BlockingIOError):
            shutdown.wait(timeout=0)
        with pytest.raises(TimeoutError):
            shutdown.wait(timeout=SHORT)
        send_here("TERM")
        send_here("INT")
        assert shutdown.wait() == shutdown.requested == signal.SIGTERM
        assert shutdown.count == 2 and cancel.fired and "requested by SIGTERM" in repr(shutdown)
        assert select.select([shutdown], [], [], 0)[0]

    def impatient():
        with Shutdown("TERM", second_ends=True):
            send_here("TERM")
            send_here("TERM")

    assert os.WTERMSIG(in_child(impatient)) == signal.SIGTERM
    with pytest.raises(OSError, match="SIGKILL"):
        Shutdown(["KILL"])


def test_fork():
    with Signals("TERM") as signals:
        assert os.WTERMSIG(in_child(lambda: send_here("TERM"))) == signal.SIGTERM

        def own():
            with pytest.raises(BlockingIOError):
                signals.take(timeout=0)
            send_here("TERM")
            assert signals.take(timeout=GENEROUS).pid == os.getpid()

        assert in_child(own) == 0
        with pytest.raises(BlockingIOError):
            signals.take(timeout=0)


def test_sending():
    with pytest.raises(ProcessLookupError):
        Signal("TERM").send(2**31 - 1)
    with pytest.raises(OSError, match="everybody") as caught:
        Signal("TERM").send(-1)
    assert caught.value.errno == errno.EINVAL and caught.value.filename == "signal:TERM@-1"
    with pytest.raises(OSError, match="everybody"):
        Signal("TERM").send_to_group(1)
    with pytest.raises(ProcessLookupError):
        Signal("TERM").send_value(2**31 - 1, 1)

    def full():
        import resource

        resource.setrlimit(resource.RLIMIT_SIGPENDING, (64, 64))
        SignalMask.block(RT).__enter__()  # for good: what is pending would end the child
        with pytest.raises(BlockingIOError, match="RLIMIT_SIGPENDING"):
            for value in range(100):
                RT.send_value(os.getpid(), value)

    assert in_child(full) == 0


def test_target():
    with subprocess.Popen(["sleep", "60"]) as process:
        with SignalTarget(process.pid) as target, SignalTarget(f"signal:TERM@{process.pid}") as addressed:
            assert target.exists and target.pid == process.pid
            assert repr(target) == f"<wigwag.SignalTarget pid={process.pid}>"
            assert target.path == "pidfd_send_signal"
            with pytest.raises(TypeError, match="which signal"):
                target.send()
            with SignalTarget.from_fd(os.dup(target.fileno())) as adopted:
                assert adopted.pid == process.pid
            addressed.send()
            assert process.wait(GENEROUS) == -signal.SIGTERM
            assert not target.exists
            with pytest.raises(ProcessLookupError):
                target.send("TERM")
            with pytest.raises(ProcessLookupError):
                target.send_value(1, RT)
        with pytest.raises(ValueError, match="closed SignalTarget"):
            target.send("TERM")
    with pytest.raises(ProcessLookupError):
        SignalTarget(2**31 - 1)
    with pytest.raises(OSError) as caught:
        SignalTarget.from_fd(0)
    assert caught.value.errno == errno.EBADF


STANDARD_LIBRARY = """
import os, signal, sys
number = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
print("ready", flush=True)
info = signal.sigtimedwait([number], 30)
assert (info.si_pid, info.si_uid) == (os.getppid(), os.getuid()), info
os.kill(os.getppid(), number)
"""


def test_standard_library_on_the_other_side():
    process = subprocess.Popen([sys.executable, "-c", STANDARD_LIBRARY, str(int(RT))], stdout=subprocess.PIPE, text=True)
    with Signals(RT) as signals, process:
        assert process.stdout.readline() == "ready\n"
        RT.send_value(process.pid, 3)
        info = signals.take(timeout=GENEROUS)
        assert (info.signal, info.pid, info.code) == (RT, process.pid, 0)
        assert process.wait(GENEROUS) == 0


def test_libc_on_the_other_side(tmp_path):
    peer = tmp_path / "signal"
    source = ROOT / "c-tests/peers/signal.c"
    subprocess.run(["cc", "-D_GNU_SOURCE", source, "-o", peer, "-pthread", "-lrt"], check=True)
    with Signals(RT) as signals:
        subprocess.run([peer, "send", str(os.getpid()), str(int(RT)), "20"], check=True, timeout=GENEROUS)
        assert [signals.take(timeout=GENEROUS).value for _ in range(20)] == list(range(20))
    reader, writer = wigwag.Pipe.open()
    with reader, writer:
        writer.inherit()
        arguments = [peer, "receive", str(int(RT)), "20", str(writer.fileno())]
        with subprocess.Popen(arguments, pass_fds=[writer.fileno()]) as process:
            reader.read_exact(1, timeout=GENEROUS)
            for value in range(20):
                RT.send_value(process.pid, value)
            assert process.wait(GENEROUS) == 0


def test_the_documents_program():
    program = [sys.executable, ROOT / "examples/signal/main.py"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "Waiting for signal...\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "Received signal 2\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS) == 0
        assert process.stdout.read() == ""
