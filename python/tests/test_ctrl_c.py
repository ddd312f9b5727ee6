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
    "pipe splice_from": "source, reader = wigwag.Pipe.open(), wigwag.Pipe.open(); "
                        "wait = lambda: reader[1].splice_from(source[0], 10)",
    "pipe tee": "source, reader = wigwag.Pipe.open(), wigwag.Pipe.open(); wait = lambda: source[0].tee(reader[1], 10)",
    "pipe read_into": "reader, writer = wigwag.Pipe.open(); wait = lambda: reader.read_into(bytearray(9))",
    "adopted pipe read": "r, w = os.pipe(); reader = wigwag.Pipe.from_fd(r); wait = reader.read",
    "fifo open": "wigwag.Fifo.create(f'fifo:{DIR}/f'); wait = lambda: wigwag.Fifo.open_writer(f'fifo:{DIR}/f')",
    "fifo open_reader": "wait = lambda: wigwag.Fifo.open_reader(f'fifo:{DIR}/f', create=True)",
    "fifo read": "wigwag.Fifo.create(f'fifo:{DIR}/f'); fifo = wigwag.Fifo.open_reader(f'fifo:{DIR}/f', keep_open=True); "
                 "wait = fifo.read",
    "fifo read_exact": "fifo = wigwag.Fifo.open_reader(f'fifo:{DIR}/f', create=True, keep_open=True); "
                       "wait = lambda: fifo.read_exact(3)",
    "fifo write_all": "fifo = wigwag.Fifo.open_reader(f'fifo:{DIR}/f', create=True, keep_open=True); "
                      "writer = wigwag.Fifo.open_writer(f'fifo:{DIR}/f'); wait = lambda: writer.write_all(bytes(10**6))",
    "socket recv": "a, b = wigwag.Socket.pair(); wait = a.recv",
    "socket recv_exact": "a, b = wigwag.Socket.pair(); wait = lambda: a.recv_exact(3)",
    "socket send_all": "a, b = wigwag.Socket.pair(); wait = lambda: a.send_all(bytes(10**7))",
    "socket recv_from": "a = wigwag.Socket.bind('udp://127.0.0.1:0'); wait = a.recv_from",
    "socket send": "a, b = wigwag.Socket.pair()\n"
                   "def wait():\n"
                   "    while True: a.send(bytes(10**5))",
    "socket recv_into": "a, b = wigwag.Socket.pair(); wait = lambda: a.recv_into(bytearray(9))",
    "socket recv_fds": "a, b = wigwag.Socket.pair(); wait = a.recv_fds",
    "socket send_fds": "a, b = wigwag.Socket.pair('unix-seqpacket')\n"
                       "def wait():\n"
                       "    while True: a.send_fds(bytes(10**4), [0])",
    "socket send_to": "a = wigwag.Socket.bind(f'unix-dgram:{DIR}/s'); b = wigwag.Socket.bind(f'unix-dgram:{DIR}/t')\n"
                      "def wait():\n"
                      "    while True: b.send_to(b'x', f'unix-dgram:{DIR}/s')",
    "listener accept": "listener = wigwag.Listener('tcp://127.0.0.1:0'); wait = listener.accept",
    "unix connect": "listener = wigwag.Listener(f'unix:@{NAME}?backlog=1')\n"
                    "def wait():\n"
                    "    kept = []\n"
                    "    while True: kept.append(wigwag.Socket.connect(f'unix:@{NAME}'))",
    "log serve": "log = wigwag.Log.open(f'log:{DIR}/log?file={DIR}/file', writer='never'); wait = log.serve",
    "log without room": "log = wigwag.Log.open(f'log:{DIR}/other?file={DIR}/file', capacity=8192, writer='never')\n"
                        "def wait():\n"
                        "    while True: log.log('info', 'x' * 1000)",
    "mq recv": "queue = wigwag.Mq.create(f'mq:/{NAME}'); wigwag.Mq.remove(f'mq:/{NAME}'); wait = queue.recv",
    "mq send": "queue = wigwag.Mq.create(f'mq:/{NAME}?depth=1&size=8'); wigwag.Mq.remove(f'mq:/{NAME}'); queue.send(b'')\n"
               "wait = lambda: queue.send(b'')",
    "sysv mq recv": "queue = wigwag.SysvMq.create('sysv-mq:private'); at_end = queue.unlink; wait = queue.recv",
    "sysv mq recv of a type": "queue = wigwag.SysvMq.create('sysv-mq:private'); at_end = queue.unlink; queue.send(b'', type=1)\n"
                              "wait = lambda: queue.recv(type=2)",
    "sysv mq send": "queue = wigwag.SysvMq.create('sysv-mq:private'); at_end = queue.unlink\n"
                    "def wait():\n"
                    "    while True: queue.send(bytes(4000))",
    "ring recv": "ring = wigwag.Ring.anonymous(); wait = ring.recv",
    "ring send": "ring = wigwag.Ring.anonymous(1024, 64)\n"
                 "def wait():\n"
                 "    while True: ring.send(b'')",
    "ring recv_into": "ring = wigwag.Ring.anonymous(); wait = lambda: ring.recv_into(bytearray(9))",
    "ring recv_batch": "ring = wigwag.Ring.anonymous(); wait = ring.recv_batch",
    "ring consumer recv_batch": "producer, consumer = wigwag.RingProducer.anonymous(); wait = consumer.recv_batch",
    "ring borrow": "ring = wigwag.Ring.anonymous(); wait = ring.borrow",
    "ring reserve": "ring = wigwag.Ring.anonymous(1024, 64); kept = []\n"
                    "def wait():\n"
                    "    while True: kept.append(ring.reserve(1))",
    "subscription recv": "subscription = wigwag.Topic.anonymous().subscribe(); wait = subscription.recv",
    "subscription recv_into": "subscription = wigwag.Topic.anonymous().subscribe(); "
                              "wait = lambda: subscription.recv_into(bytearray(9))",
    "subscription borrow": "subscription = wigwag.Topic.anonymous().subscribe(); wait = subscription.borrow",
    "topic publish": "topic = wigwag.Topic.anonymous(depth=2); subscription = topic.subscribe()\n"
                     "def wait():\n"
                     "    while True: topic.publish(b'')",
    "topic publish_batch": "topic = wigwag.Topic.anonymous(depth=2); subscription = topic.subscribe(); "
                           "wait = lambda: topic.publish_batch([b''] * 3)",
    "topic reserve": "topic = wigwag.Topic.anonymous(4096, 1024); kept = []\n"
                     "def wait():\n"
                     "    while True: kept.append(topic.reserve(1024))",
    "channel recv": "receiver, sender = wigwag.Channel.pair('pipe:'); wait = receiver.recv",
    "channel recv of a stream": "receiver = wigwag.Channel.open_receiver(f'unix:@{NAME}'); wait = receiver.recv_message",
    "channel recv of a queue": "receiver = wigwag.Channel.open_receiver(f'mq:/{NAME}'); wigwag.Channel.remove(f'mq:/{NAME}'); "
                               "wait = lambda: receiver.recv_into(bytearray(9000))",
    "channel recv_batch": "receiver = wigwag.Channel.open_receiver(f'ring:{DIR}/r'); wait = lambda: receiver.recv_batch(3)",
    "channel send": "receiver, sender = wigwag.Channel.pair('pipe:'); wait = lambda: sender.send(bytes(10**6))",
    "channel send_batch": "receiver, sender = wigwag.Channel.pair('pipe:'); wait = lambda: sender.send_batch([b'x'] * 10**5)",
    "channel open_sender": "wait = lambda: wigwag.Channel.open_sender(f'unix:@{NAME}')",
    "channel open_receiver": "wait = lambda: wigwag.Channel.open_receiver(f'fifo:{DIR}/f')",
    "server serve": "server = wigwag.Server(f'unix:@{NAME}'); wait = lambda: server.serve(bytes.upper)",
    "server serve_one": "server = wigwag.Server(f'ring:{DIR}/r'); wait = lambda: server.serve_one(bytes.upper)",
    "caller call": "server = wigwag.Server(f'unix:@{NAME}'); caller = wigwag.Caller(f'unix:@{NAME}'); "
                   "wait = lambda: caller.call(b'?')",
    "caller call over a ring": "server = wigwag.Server(f'ring:{DIR}/r'); caller = wigwag.Caller(f'ring:{DIR}/r'); "
                               "wait = lambda: caller.call(b'?')",
    "caller open": "wait = lambda: wigwag.Caller(f'unix:@{NAME}')",
    "channel flush": "receiver = wigwag.Channel.open_receiver(f'unix:@{NAME}'); "
                     "sender = wigwag.Channel.open_sender(f'unix:@{NAME}'); sender.send(b'x'); wait = sender.flush",
    "ring producer send": "producer, consumer = wigwag.RingProducer.anonymous(1024, 64)\n"
                          "def wait():\n"
                          "    while True: producer.send(bytes(64))",
    "ring producer reserve": "producer, consumer = wigwag.RingProducer.anonymous(1024, 64)\n"
                             "def wait():\n"
                             "    while True: producer.reserve(64).commit()",
    "ring consumer recv": "producer, consumer = wigwag.RingProducer.anonymous(); wait = consumer.recv",
    "ring consumer recv_into": "producer, consumer = wigwag.RingProducer.anonymous(); "
                               "wait = lambda: consumer.recv_into(bytearray(9))",
    "ring consumer borrow": "producer, consumer = wigwag.RingProducer.anonymous(); wait = consumer.borrow",
    "cell wait": "cell = wigwag.Cell.anonymous(); wait = lambda: cell.wait(0)",
    "mutex acquire": "mutex = wigwag.Mutex.anonymous(); other = wigwag.Mutex.from_fd(os.dup(mutex.segment_fd())); "
                     "other.acquire(); wait = mutex.acquire",
    "permits acquire": "permits = wigwag.Permits.anonymous(); permits.acquire(); wait = permits.acquire",
    "lease acquire": "pool = wigwag.LeasePool.anonymous(1); lease = pool.acquire(); wait = pool.acquire",
    "lease wait_wanted": "pool = wigwag.LeasePool.anonymous(1); wait = pool.wait_wanted",
    "event wait": "event = wigwag.Event.anonymous(); wait = event.wait",
    "rwlock read": "lock = wigwag.RwLock.anonymous(); other = wigwag.RwLock.from_fd(os.dup(lock.segment_fd())); "
                   "other.acquire_write(); wait = lock.reading().__enter__",
    "rwlock write": "lock = wigwag.RwLock.anonymous(); lock.acquire_read(); wait = lock.acquire_write",
    "barrier wait": "barrier = wigwag.Barrier.anonymous(); wait = barrier.wait",
    "barrier wait_numbered": "barrier = wigwag.Barrier.anonymous(); wait = barrier.wait_numbered",
    "condition wait, which has the mutex after it": "mutex = wigwag.Mutex.anonymous(); mutex.acquire(); "
                                                    "condition = wigwag.Condition.anonymous(mutex); "
                                                    "at_end = mutex.release; wait = condition.wait",
    "sem acquire": "sem = wigwag.Sem.create(f'sem:/{NAME}'); wigwag.Sem.remove(f'sem:/{NAME}'); wait = sem.acquire",
    "sysv sem acquire": "sems = wigwag.SysvSem.create('sysv-sem:private'); at_end = sems.unlink; wait = sems.acquire",
    "sem held": "sem = wigwag.Sem.create(f'sem:/{NAME}'); wigwag.Sem.remove(f'sem:/{NAME}'); "
                "wait = sem.held().__enter__",
    "sysv sem add": "sems = wigwag.SysvSem.create('sysv-sem:private'); at_end = sems.unlink; wait = lambda: sems.add(0, -2)",
    "sysv sem operate": "sems = wigwag.SysvSem.create('sysv-sem:private', [1, 0]); at_end = sems.unlink; "
                        "wait = lambda: sems.operate([(0, -1), (1, -1)])",
    "sysv sem wait_zero": "sems = wigwag.SysvSem.create('sysv-sem:private', [1]); at_end = sems.unlink; wait = sems.wait_zero",
    "sysv sem held": "sems = wigwag.SysvSem.create('sysv-sem:private'); at_end = sems.unlink; wait = sems.held().__enter__",
    "shm open without a size": "os.close(os.open(f'/dev/shm/{NAME}', os.O_CREAT | os.O_RDWR, 0o600)); "
                               "at_end = lambda: os.unlink(f'/dev/shm/{NAME}'); wait = lambda: wigwag.Shm.open(f'shm:/{NAME}')",
    "signals take": "signals = wigwag.Signals('USR1'); wait = signals.take",
    "signals dispatch": "signals = wigwag.Signals('USR1'); wait = signals.dispatch",
    "shutdown wait": "shutdown = wigwag.Shutdown('TERM'); wait = shutdown.wait",
    "wait_signal": "wait = lambda: wigwag.wait_signal('USR1')",
    "file lock": "path = f'file:{DIR}/f'; a = wigwag.File.open(path, create='if-missing'); b = wigwag.File.open(path)\n"
                 "held = a.lock(); wait = b.lock",
    "file append_locked": "path = f'file:{DIR}/f'; a = wigwag.File.open(path, create='if-missing'); "
                          "b = wigwag.File.open(path); held = a.lock(); wait = lambda: b.append_locked(b'x')",
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


def test_ctrl_c_leaves_a_wait_that_never_sleeps(tmp_path):
    setup = "ring = wigwag.Ring.anonymous(wait='poll'); wait = ring.recv"
    program = PROGRAM.format(setup=setup)
    process = subprocess.Popen([sys.executable, "-c", program, "", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)  # it is on its way into the call
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def is_asleep(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def select_line(stream):
    import select

    return bool(select.select([stream], [], [], 0.05)[0])
