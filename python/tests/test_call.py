"""Questions and answers: who asks gets the answer, and nobody else's."""

import asyncio
import contextlib
import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from conftest import GENEROUS

import wigwag
from wigwag import Caller, Channel, Refused, Server

KINDS = ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket", "mq", "sysv-mq", "ring", "fifo"]
#: Over these several servers share the questions.
SHARED = ["mq", "sysv-mq", "ring"]


@pytest.fixture
def address_of(fresh, tmp_path):
    """A fresh address of a kind; what it names is gone afterwards, and nothing else has come to lie beside it."""
    made = []

    def make(kind):
        text = {"tcp": "tcp://127.0.0.1:0", "udp": "udp://127.0.0.1:0", "mq": f"mq:/{fresh('call')}",
                "sysv-mq": f"sysv-mq:{tmp_path}#{len(made) + 1}"}
        text = text.get(kind, f"{kind}:{tmp_path}/{len(made)}")
        made.append(text + {"fifo": "?keep-open=1", "ring": "?persistent=1"}.get(kind, ""))
        return made[-1]

    yield make
    for address in made:
        with contextlib.suppress(OSError):  # sockets' names are gone already
            Channel.remove(address)
        if address.startswith("mq:/") and os.path.isdir("/dev/mqueue"):
            assert not [name for name in os.listdir("/dev/mqueue") if name.startswith(address[4:])]
    assert os.listdir(tmp_path) == []


@contextlib.contextmanager
def serving(address, handler, threads=1):
    """A server with threads of its own; what it found is for looking at afterwards."""
    with Server(address) as server:
        ended = []

        def serve():
            try:
                server.serve(handler)
            except OSError as error:
                ended.append(error.errno)

        running = [threading.Thread(target=serve) for _ in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield server, server.local_address or address
        finally:
            server.close()
            for thread in running:
                thread.join()
        assert ended == [errno.ECANCELED] * threads


def backwards(question):
    return question[::-1]


SERVER = """
import sys, wigwag

def handler(question):
    if question == b"stop":
        raise SystemExit(0)
    return question[::-1]

server = wigwag.Server(sys.argv[1])
print(server.local_address or server.address, flush=True)
server.serve(handler, 30)
"""

CALLER = """
import os, sys, wigwag

with wigwag.Caller(sys.argv[1], 30) as caller:
    for number in range(50):
        question = b"%d of %d" % (number, os.getpid()) + b"x" * (number * 17)
        assert caller.call(question, 30) == question[::-1]
    assert caller.late == 0
"""


@pytest.mark.parametrize("kind", KINDS)
def test_processes_ask_and_answer(kind, address_of):
    address = address_of(kind)
    servers = [
        subprocess.Popen([sys.executable, "-c", SERVER, address], stdout=subprocess.PIPE, text=True)
        for _ in range(2 if kind in SHARED else 1)
    ]
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
            stack.callback(server.kill)
        reached = {server.stdout.readline().strip() for server in servers}
        assert len(reached) == 1
        reached, = reached
        callers = [subprocess.Popen([sys.executable, "-c", CALLER, reached]) for _ in range(3)]
        assert [caller.wait(GENEROUS) for caller in callers] == [0, 0, 0]
        with Caller(reached, GENEROUS) as caller:
            for _ in servers:
                with pytest.raises(Refused, match="SystemExit: 0"):  # the handler ends its server, and answers
                    caller.call(b"stop", GENEROUS)
        assert [server.wait(GENEROUS) for server in servers] == [0] * len(servers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_comes_with_its_text(kind, address_of, caplog):
    def handler(question):
        if question == b"wrong":
            raise ValueError("no such account: ä")
        if question == b"nothing":
            return None
        if question == b"bare":
            raise RuntimeError
        raise Refused("not that one")

    with serving(address_of(kind), handler) as (server, reached), Caller(reached, GENEROUS) as caller:
        for question, text in {
            b"refuse": "not that one", b"wrong": "ValueError: no such account: ä", b"bare": "RuntimeError",
        }.items():
            with pytest.raises(Refused) as caught:
                caller.call(question, GENEROUS)
            assert (caught.value.errno, caught.value.strerror) == (errno.EREMOTEIO, text)
            assert caught.value.filename == caller.address
        with pytest.raises(Refused, match="TypeError: .*NoneType"):
            caller.call(b"nothing", GENEROUS)
        assert (server.dropped, server.foreign, caller.late) == (0, 0, 0)
    # What is no refusal on purpose is told here too, with its traceback.
    records = [record for record in caplog.records if record.name == "wigwag"]
    assert [record.exc_info[0] for record in records] == [ValueError, RuntimeError, TypeError]
    assert all(record.levelno == logging.ERROR for record in records)
    assert records[0].exc_info[2] is not None


def test_a_refusal_is_passed_on(address_of):
    def refuse(question):
        raise Refused("not here")

    with serving(address_of("unix"), refuse) as (_, reached), Caller(reached, GENEROUS) as behind:
        with serving(address_of("ring"), lambda question: behind.call(question, GENEROUS)) as (_, reached):
            with Caller(reached, GENEROUS) as caller, pytest.raises(Refused) as caught:
                caller.call(b"?", GENEROUS)
    assert caught.value.strerror == "not here"
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is Refused and again.args == caught.value.args


class Slow:
    """A handler that answers b"slow" when it is let."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, question):
        if question == b"slow":
            self.begun.set()
            assert self.go_on.wait(GENEROUS)
        return question[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_answer_is_dropped_and_counted(kind, address_of):
    slow = Slow()
    with serving(address_of(kind), slow) as (_, reached), Caller(reached, GENEROUS) as caller:
        cancel, ended = wigwag.Cancel(), []

        def ask():
            with cancel, pytest.raises(OSError) as caught:
                caller.call(b"slow")
            ended.append(caught.value.errno)

        asking = threading.Thread(target=ask)
        asking.start()
        assert slow.begun.wait(GENEROUS)
        cancel.fire()
        asking.join()
        assert ended == [errno.ECANCELED] and caller.late == 0
        slow.go_on.set()
        assert caller.call(b"next", GENEROUS) == b"txen"
        assert caller.late == 1


def test_no_answer_in_time(address_of):
    with Server(address_of("ring")) as server, Caller(server.address) as caller:
        with pytest.raises(TimeoutError) as caught:
            caller.call(b"anybody?", 0.02)
        assert caught.value.filename == server.address
        with pytest.raises(BlockingIOError):
            caller.call(b"at once?", 0)
        with pytest.raises(ValueError, match="timeout"):
            caller.call(b"?", -1)
        # Both are there still, and are answered, for nobody.
        assert server.serve_one(backwards, GENEROUS) and server.serve_one(backwards, GENEROUS)
        with pytest.raises(BlockingIOError):
            server.serve_one(backwards, 0)
        with pytest.raises(TimeoutError):
            server.serve(backwards, 0.02)
        with serving_thread(server):
            assert caller.call(bytearray(b"now"), GENEROUS) == b"won"
        assert caller.late == 2


@contextlib.contextmanager
def serving_thread(server):
    """One question is answered meanwhile."""
    thread = threading.Thread(target=server.serve_one, args=(backwards, GENEROUS))
    thread.start()
    yield
    thread.join()


def test_what_is_no_question(address_of):
    with Server(address_of("unix")) as server:
        with Channel.open_sender(server.address) as other, Caller(server.address) as caller:
            other.send(b"hello")
            with serving_thread(server):
                assert caller.call(b"?", GENEROUS) == b"?"
            with serving_thread(server):  # by now what was no question has been passed over
                assert caller.call(b"!", GENEROUS) == b"!"
            assert server.foreign == 1
            with wigwag.Socket.connect(server.address) as garbage:
                garbage.send_all(b"\xff" * 8)  # a length beyond every maximum
                with pytest.raises(OSError) as caught:
                    server.serve_one(backwards, GENEROUS)
                assert caught.value.errno == errno.EBADMSG
            with wigwag.Socket.connect(server.address) as garbage:
                garbage.send_all(b"\xff" * 8)
                with pytest.raises(TimeoutError):
                    server.serve(backwards, 0.1)  # it does not end by that
            with serving_thread(server):
                assert caller.call(b"!?", GENEROUS) == b"?!"


def test_a_server_that_goes_is_noticed(address_of):
    address = address_of("unix")
    program = "import os, signal, sys, wigwag\n" \
              "server = wigwag.Server(sys.argv[1])\n" \
              "print('ready', flush=True)\n" \
              "server.serve(lambda question: os.kill(os.getpid(), signal.SIGKILL))"
    with subprocess.Popen([sys.executable, "-c", program, address], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with Caller(address, GENEROUS) as caller, pytest.raises((BrokenPipeError, ConnectionResetError)):
            caller.call(b"die", GENEROUS)
        assert process.wait(GENEROUS) == -signal.SIGKILL
    os.unlink(address[len("unix:"):])  # what a server that was killed leaves is the next one's to remove


def test_a_killed_caller_costs_its_answer_alone(address_of):
    slow = Slow()
    with serving(address_of("ring"), slow) as (server, reached):
        program = "import sys, wigwag; wigwag.Caller(sys.argv[1], 30).call(b'slow')"
        with subprocess.Popen([sys.executable, "-c", program, reached]) as process:
            assert slow.begun.wait(GENEROUS)
            process.kill()
        slow.go_on.set()
        with Caller(reached) as caller:
            assert caller.call(b"next", GENEROUS) == b"txen"
            assert (server.dropped, caller.late) == (1, 0)


@pytest.mark.parametrize("raises", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_leaves_serve_and_refuses(raises, address_of, caplog):
    def handler(question):
        raise raises

    for serve in (Server.serve, Server.serve_one):
        with Server(address_of("unix")) as server, Caller(server.address) as caller:
            refusals = []

            def ask():
                with pytest.raises(Refused) as caught:
                    caller.call(b"?", GENEROUS)
                refusals.append(caught.value.strerror)

            asking = threading.Thread(target=ask)
            asking.start()
            with pytest.raises(raises):
                serve(server, handler, GENEROUS)
            asking.join()
            assert refusals == [raises.__name__]
    assert not caplog.records  # whoever called serve has it


def test_a_handler_may_close_its_server(address_of):
    with Server(address_of("ring")) as server, Caller(server.address) as caller:

        def handler(question):
            server.close()
            return b"closed"

        ended = []

        def serve():
            with pytest.raises(OSError) as caught:
                server.serve(handler)
            ended.append(caught.value.errno)

        serving = threading.Thread(target=serve)
        serving.start()
        assert caller.call(b"close", GENEROUS) == b"closed"
        serving.join()
        assert ended == [errno.ECANCELED]


def test_several_threads_serve_and_ask(address_of):
    both = threading.Barrier(2)

    def handler(question):
        both.wait(GENEROUS)  # two questions are answered at the same time, or none
        return question

    with serving(address_of("ring"), handler, threads=2) as (_, reached):
        with Caller(reached) as one, Caller(reached) as two:
            asking = threading.Thread(target=lambda: [one.call(b"%d" % number, GENEROUS) for number in range(20)])
            asking.start()
            assert [two.call(b"%d" % number, GENEROUS) for number in range(20)] == [b"%d" % number for number in range(20)]
            asking.join()


def test_asyncio(address_of):
    slow = Slow()

    async def ask(reached):
        with Caller(reached) as caller:
            assert await caller.call_async(b"one", GENEROUS) == b"eno"
            asking = asyncio.ensure_future(caller.call_async(b"slow"))
            await asyncio.get_running_loop().run_in_executor(None, slow.begun.wait, GENEROUS)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            slow.go_on.set()
            assert await caller.call_async(b"two", GENEROUS) == b"owt"
            assert caller.late == 1

    with serving(address_of("ring"), slow) as (_, reached):
        asyncio.run(ask(reached))


def test_both_pickle_as_their_address(address_of):
    with Server(address_of("ring"), 3) as server, pickle.loads(pickle.dumps(server)) as other:
        assert isinstance(other, Server) and other.address == server.address
        with Caller(server.address, 3) as caller, pickle.loads(pickle.dumps(caller)) as twin:
            assert twin.address == caller.address
            with serving_thread(other):
                assert twin.call(b"?!", GENEROUS) == b"!?"


@pytest.mark.parametrize("address", ["sysv-mq:private", "topic:nothing", "pipe:", "file:nothing"])
@pytest.mark.parametrize("kind", [Caller, Server])
def test_without_a_way_back_it_is_refused(kind, address):
    with pytest.raises(OSError, match="no way leads back") as caught:
        kind(address)
    assert caught.value.errno == errno.ENOTSUP


def test_a_caller_belongs_to_its_process(address_of):
    with Server(address_of("ring")) as server, Caller(server.address) as caller:
        pid = os.fork()
        if pid == 0:
            try:
                caller.call(b"?", 0)
            except OSError as error:
                os._exit(error.errno)
            finally:
                os._exit(1)
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == errno.ENOTSUP
