"""Ctrl-C leaves every wait that there is: KeyboardInterrupt comes out, and nothing is taken or left behind."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import GENEROUS

#: Each makes `wait`, a call without a timeout that blocks for ever. NAME is a fresh name, DIR a directory.
WAITS = {
    "eventfd take": "events = wigwag.EventFd(); wait = events.take",
    "eventfd add": "events = wigwag.EventFd(initial=2**64 - 2); wait = events.add",
    "pipe read": "reader, writer = wigwag.Pipe.open(); wait = reader.read",
    "pipe read_exact": "reader, writer = wigwag.Pipe.open(); wait = lambda: reader.read_exact(2)",
    "pipe write_all": "reader, writer = wigwag.Pipe.open(); wait = lambda: writer.write_all(bytes(10**6))",
    "pipe splice": "reader, writer = wigwag.Pipe.open(); other = wigwag.Pipe.open(); "
                   "wait = lambda: reader.splice_to(other[1], 10)",
    "adopted pipe read": "r, w = os.pipe(); reader = wigwag.Pipe.from_fd(r); wait = reader.read",
    "fifo open": "wigwag.Fifo.create(f'fifo:{DIR}/f'); wait = lambda: wigwag.Fifo.open_writer(f'fifo:{DIR}/f')",
    "fifo read": "wigwag.Fifo.create(f'fifo:{DIR}/f'); fifo = wigwag.Fifo.open_reader(f'fifo:{DIR}/f', keep_open=True); "
                 "wait = fifo.read",
    "socket recv": "a, b = wigwag.Socket.pair(); wait = a.recv",
    "socket recv_exact": "a, b = wigwag.Socket.pair(); wait = lambda: a.recv_exact(3)",
    "socket send_all": "a, b = wigwag.Socket.pair(); wait = lambda: a.send_all(bytes(10**7))",
    "socket recv_from": "a = wigwag.Socket.bind('udp://127.0.0.1:0'); wait = a.recv_from",
    "listener accept": "listener = wigwag.Listener('tcp://127.0.0.1:0'); wait = listener.accept",
    "unix connect": "listener = wigwag.Listener(f'unix:@{NAME}?backlog=1')\n"
                    "def wait():\n"
                    "    kept = []\n"
                    "    while True: kept.append(wigwag.Socket.connect(f'unix:@{NAME}'))",
    "mq recv": "queue = wigwag.Mq.create(f'mq:/{NAME}'); wigwag.Mq.remove(f'mq:/{NAME}'); wait = queue.recv",
    "mq send": "queue = wigwag.Mq.create(f'mq:/{NAME}?depth=1&size=8'); wigwag.Mq.remove(f'mq:/{NAME}'); queue.send(b'')\n"
               "wait = lambda: queue.send(b'')",
    "sysv mq recv": "queue = wigwag.SysvMq.create('sysv-mq:private'); at_end = queue.unlink; wait = queue.recv",
    "sysv mq send": "queue = wigwag.SysvMq.create('sysv-mq:private'); at_end = queue.unlink\n"
                    "def wait():\n"
                    "    while True: queue.send(bytes(4000))",
    "sem acquire": "sem = wigwag.Sem.create(f'sem:/{NAME}'); wigwag.Sem.remove(f'sem:/{NAME}'); wait = sem.acquire",
    "sysv sem acquire": "sems = wigwag.SysvSem.create('sysv-sem:private'); at_end = sems.unlink; wait = sems.acquire",
    "signals take": "signals = wigwag.Signals('USR1'); wait = signals.take",
    "wait_signal": "wait = lambda: wigwag.wait_signal('USR1')",
    "file lock": "path = f'file:{DIR}/f'; a = wigwag.File.open(path, create='if-missing'); b = wigwag.File.open(path)\n"
                 "held = a.lock(); wait = b.lock",
    "file watch": "watch = wigwag.FileWatch(f'file:{DIR}/never', wigwag.FileWatch.APPEARED); wait = watch.wait",
    "file until_exists": "wait = lambda: wigwag.File.until_exists(f'file:{DIR}/never')",
    "waitset": "waitset = wigwag.WaitSet(); events = wigwag.EventFd(); waitset.add(events, 1); wait = waitset.wait",
}

PROGRAM = """
import os, signal, sys, wigwag
NAME, DIR = sys.argv[1], sys.argv[2]
signal.signal(signal.SIGINT, signal.default_int_handler)
at_end = lambda: None
{setup}
print("waiting", flush=True)
try:
    try:
        wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
finally:
    at_end()
"""


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_leaves(name, fresh, tmp_path):
    program = PROGRAM.format(setup=WAITS[name])
    process = subprocess.Popen(
        [sys.executable, "-c", program, fresh("ctrlc"), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "waiting\n"
        # Asleep for a while, since it sleeps for a moment on its way into some of the waits; and again, because a signal
        # that comes between the interpreter's look and the system call is noticed at the next one only.
        for _ in range(100):
            time.sleep(0.05)
            if process.poll() is None and is_asleep(process.pid):
                process.send_signal(signal.SIGINT)
            if select_line(process.stdout):
                break
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def is_asleep(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def select_line(stream):
    import select

    return bool(select.select([stream], [], [], 0.05)[0])
