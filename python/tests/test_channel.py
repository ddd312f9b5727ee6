"""Channels: messages over any mechanism, by its address."""

import asyncio
import errno
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
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import Channel

KINDS = [
    "tcp", "tcp?framing=line", "udp", "unix", "unix-dgram", "unix-seqpacket", "pipe", "fifo", "fifo?keep-open=1", "mq",
    "sysv-mq", "ring", "topic", "file",
]


class Ends:
    """Both ends over a fresh object, and the address that more senders open."""

    def __init__(self, kind, name, path):
        scheme, _, options = kind.partition("?")
        options = f"?{options}" if options else ""
        if scheme == "pipe":
            self.address = "pipe:" + options
            self.receiver, self.sender = Channel.pair(self.address)
            return
        if scheme in ("tcp", "udp"):
            self.receiver = Channel.open_receiver(f"{scheme}://127.0.0.1:0{options}")
            local = self.receiver.local_address
            self.address = local if "?" in local else local + options
        else:
            (path / "key").touch()
            self.address = {"mq": f"mq:/{name}", "sysv-mq": f"sysv-mq:{path}/key#7"}.get(scheme, f"{scheme}:{path}/it") + options
            if scheme == "fifo":  # each end waits for the other
                opened = []
                thread = threading.Thread(target=lambda: opened.append(Channel.open_receiver(self.address, GENEROUS)))
                thread.start()
                self.sender = Channel.open_sender(self.address, GENEROUS)
                thread.join()
                self.receiver, = opened
                return
            self.receiver = Channel.open_receiver(self.address)
        self.sender = Channel.open_sender(self.address, GENEROUS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sender.close()
        self.receiver.close()
        try:
            Channel.remove(self.address)
        except OSError as error:
            assert error.errno == errno.EINVAL  # sockets and pipes leave nothing


@pytest.fixture
def both(fresh, tmp_path):
    return lambda kind: Ends(kind, fresh("channel"), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_over_every_mechanism(kind, both):
    with both(kind) as ends:
        able = Channel.capabilities(ends.address)
        with pytest.raises(BlockingIOError):
            ends.receiver.recv(timeout=0)
        with pytest.raises(TimeoutError) as caught:
            ends.receiver.recv(SHORT)
        assert caught.value.filename.startswith(kind.partition("?")[0])
        large = b"x" * min(able.largest or 1000, 60_000)
        sending = threading.Thread(target=ends.sender.send_batch, args=([b"a job", bytearray(b"two"), large], GENEROUS))
        sending.start()
        assert ends.receiver.recv(GENEROUS) == b"a job"
        with pytest.raises(OSError) as caught:
            ends.receiver.recv_into(bytearray(2), GENEROUS)
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 3
        room = bytearray(len(large))
        assert ends.receiver.recv_into(room, GENEROUS) == 3 and room[:3] == b"two"
        message = ends.receiver.recv_message(GENEROUS)
        assert message.data == large and message.missed == 0 and message.priority == 0
        assert message.deliveries == (1 if kind == "ring" else 0)
        assert (message.peer is not None) == able.answers
        sending.join()
        assert ends.receiver.statistics().received == 3 and ends.sender.statistics().sent == 3
        assert "received=3 waiting=" in repr(ends.receiver.statistics()) and "Some" not in repr(ends.receiver.statistics())
        with pytest.raises(OSError) as caught:
            ends.receiver.send(b"x")
        assert caught.value.errno == errno.EBADF
        if able.priorities == 1:
            with pytest.raises(OSError, match="mq: does") as caught:
                ends.sender.send(b"x", priority=1)
            assert caught.value.errno == errno.ENOTSUP
        else:
            ends.sender.send(b"low", priority=1)
            ends.sender.send(b"high", priority=2)
            assert ends.receiver.recv_message(GENEROUS).priority == 2
            assert ends.receiver.recv(GENEROUS) == b"low"
        ends.sender.flush(GENEROUS)
        assert repr(ends.sender) == f"<wigwag.Channel sender {ends.address}>"


@pytest.mark.parametrize("kind", KINDS)
def test_batches(kind, both):
    with both(kind) as ends:
        sent = [b"%d" % n for n in range(6)]
        ends.sender.send_batch(sent, GENEROUS)
        found = []
        while len(found) < len(sent):
            found += [message.data for message in ends.receiver.recv_batch(len(sent) - len(found), GENEROUS)]
        assert found == sent


def test_how_far_a_batch_came(both):
    with both("ring?capacity=4096&largest=1000") as ends:
        with pytest.raises(OSError) as caught:
            ends.sender.send_batch([b"a", b"b", bytes(2000), b"c"])
        assert (caught.value.errno, caught.value.done, caught.value.true_size) == (errno.EMSGSIZE, 2, 2000)
        with pytest.raises(BlockingIOError) as caught:
            ends.sender.send_batch([bytes(900)] * 10, timeout=0)
        done = caught.value.done
        assert 0 < done < 10
        assert len(ends.receiver.recv_batch(20)) == 2 + done
        with pytest.raises(TypeError):
            ends.sender.send_batch([b"x", "text"])
        assert ends.receiver.statistics().waiting == 0


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"])
def test_answers(kind, both):
    with both(kind) as ends, Channel.open_sender(ends.address, GENEROUS) as other:
        ends.sender.send(b"first")
        first = ends.receiver.recv_message(GENEROUS)
        other.send(b"second")
        second = ends.receiver.recv_message(GENEROUS)
        ends.sender.send(b"again")
        again = ends.receiver.recv_message(GENEROUS)
        assert first.peer == again.peer and hash(first.peer) == hash(again.peer) and first.peer != second.peer
        assert {first.peer: 1, second.peer: 2}[again.peer] == 1
        ends.receiver.reply(second, b"to second")
        ends.receiver.reply(again.peer, b"to first" * 500, GENEROUS)
        assert ends.sender.recv(GENEROUS) == b"to first" * 500
        assert other.recv(GENEROUS) == b"to second"
        known = Channel.capabilities(ends.address).credentials
        assert first.peer.credentials == ((os.getpid(), os.geteuid(), os.getegid()) if known else None)
        assert str(first.peer) in repr(first) and kind in str(first.peer)
        with pytest.raises(TypeError):
            ends.receiver.reply("nobody", b"x")


def test_nobody_to_answer(both):
    with both("ring") as ends:
        ends.sender.send(b"x")
        message = ends.receiver.recv_message()
        with pytest.raises(OSError) as caught:
            ends.receiver.reply(message, b"y")
        assert caught.value.errno == errno.ENOTSUP


@pytest.mark.parametrize("kind", KINDS)
def test_asyncio(kind, both):
    async def main(ends):
        with pytest.raises(TimeoutError):
            await ends.receiver.recv_async(SHORT)
        waiting = asyncio.ensure_future(ends.receiver.recv_async(GENEROUS))
        await asyncio.sleep(0)
        await ends.sender.send_async(b"awaited", GENEROUS)
        assert await waiting == b"awaited"
        given_up = asyncio.ensure_future(ends.receiver.recv_message_async())
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await ends.sender.send_async(b"after", GENEROUS)
        message = await ends.receiver.recv_message_async(GENEROUS)
        assert message.data == b"after"
        if message.peer is not None:
            await ends.receiver.reply_async(message, b"answer", GENEROUS)
            assert await ends.sender.recv_async(GENEROUS) == b"answer"
        await ends.sender.flush_async(GENEROUS)

    with both(kind) as ends:
        asyncio.run(main(ends))


def test_the_answer_that_a_cancelled_task_had_taken_is_received_by_who_waits_already(tmp_path):
    def in_place(one):
        room = bytearray(9)
        return bytes(room[: one.recv_into(room, GENEROUS)])

    receive = [
        lambda one: one.recv(GENEROUS),
        lambda one: one.recv_message().data,
        lambda one: one.recv_batch(1, GENEROUS)[0].data,
        in_place,
    ]
    address = f"unix:{tmp_path}/s"
    with Channel.open_receiver(address) as receiver, Channel.open_sender(address, GENEROUS) as sender:
        sender.send(b"?")
        receiver.reply(receiver.recv_message(GENEROUS), b"message")
        message = asyncio.run(sender.recv_message_async(GENEROUS))
        for one in receive:
            found = []
            threads = [threading.Thread(target=lambda: found.append(one(sender)), daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            time.sleep(SHORT)  # so that they wait in all likelihood; it holds if they do not
            sender._give_back(message)
            sender._give_back(message)
            for thread in threads:
                thread.join(GENEROUS / 2)
            assert found == [b"message"] * 2
        with pytest.raises(TimeoutError):
            sender.recv(SHORT)


def test_the_answer_that_a_cancelled_task_had_taken_is_received_next(tmp_path):
    """A thread receives it, and may have done so before the task is told."""
    receive = [lambda one: one.recv(0), lambda one: one.recv_message(0).data, lambda one: one.recv_batch(5, 0)[0].data, into]

    async def cancel_too_late():
        waits = asyncio.ensure_future(sender.recv_async())
        await asyncio.sleep(0)
        received = sender.statistics().received
        receiver.reply(question, b"message")
        while sender.statistics().received == received:
            time.sleep(0.001)  # so that the loop does not run
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    address = f"unix:{tmp_path}/s"
    with Channel.open_receiver(address) as receiver, Channel.open_sender(address, GENEROUS) as sender:
        sender.send(b"?")
        question = receiver.recv_message(GENEROUS)
        for one in receive:
            asyncio.run(cancel_too_late())
            assert one(sender) == b"message"
        assert sender.statistics().received == len(receive)
        with pytest.raises(BlockingIOError):
            sender.recv(0)


def into(receiver):
    with pytest.raises(OSError) as caught:
        receiver.recv_into(bytearray(1), 0)
    assert (caught.value.errno, caught.value.true_size) == (errno.EMSGSIZE, 7)
    room = bytearray(9)
    return bytes(room[: receiver.recv_into(room, 0)])


def test_opening_can_be_awaited(tmp_path):
    async def main():
        address = f"fifo:{tmp_path}/f"
        return await asyncio.gather(Channel.open_receiver_async(address, GENEROUS), Channel.open_sender_async(address, GENEROUS))

    receiver, sender = asyncio.run(main())
    with receiver, sender:
        sender.send(b"x")
        assert receiver.recv() == b"x"


@pytest.mark.parametrize("kind", KINDS)
def test_the_descriptor_tells_of_messages(kind, both):
    with both(kind) as ends:
        try:
            fd = ends.receiver.fileno()
        except OSError as error:
            assert error.errno == errno.ENOTSUP and kind == "ring"
            return
        assert ends.receiver.interest == wigwag.WaitSet.READABLE and ends.receiver.fileno() == fd
        with wigwag.WaitSet() as waitset:
            waitset.add(ends.receiver, 1)
            ends.sender.send(b"x")
            while True:  # ready may also mean that a connection has come
                assert waitset.wait(timeout=GENEROUS)
                try:
                    assert ends.receiver.recv(timeout=0) == b"x"
                    break
                except BlockingIOError:
                    pass


def test_closing_ends_waits(both):
    for kind in KINDS:
        with both(kind) as ends:
            raised = []

            def wait():
                try:
                    ends.receiver.recv(GENEROUS)
                except (OSError, ValueError) as error:
                    raised.append(error)

            thread = threading.Thread(target=wait)
            thread.start()
            ends.receiver.close()
            thread.join()
            assert isinstance(raised[0], ValueError) or raised[0].errno == errno.ECANCELED, kind


@pytest.mark.parametrize("kind", ["tcp", "unix", "pipe", "fifo?keep-open=1", "mq", "sysv-mq", "ring"])
def test_a_forked_sender_that_is_killed(kind, both):
    with both(kind) as ends:
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            for number in range(3):
                ends.sender.send(b"from a child %d" % number)
            os.write(tell, b"x")
            signal.pause()
        os.close(tell)
        assert os.read(told, 1) == b"x"
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for number in range(3):
            assert ends.receiver.recv(GENEROUS) == b"from a child %d" % number
        ends.sender.send(b"the others go on")
        assert ends.receiver.recv(GENEROUS) == b"the others go on"


@pytest.mark.parametrize("kind", ["pipe", "fifo", "ring"])
def test_the_last_sender_has_gone(kind, both):
    with both(kind) as ends:
        ends.sender.send(b"x")
        ends.sender.close()
        assert ends.receiver.recv() == b"x"
        with pytest.raises(BrokenPipeError):
            ends.receiver.recv()


def test_pickles_as_its_address(both, tmp_path):
    with both("ring") as ends:
        with pickle.loads(pickle.dumps(ends.sender)) as again:
            again.send(b"x")
            assert again.address == ends.address
        with pickle.loads(pickle.dumps(ends.receiver)) as again:
            assert again.recv() == b"x"
    with both("pipe") as ends, pytest.raises(TypeError, match="no name"):
        pickle.dumps(ends.sender)


SPAWNED = """
import multiprocessing, sys
from wigwag import Channel

def work(jobs, results):
    with jobs, results:
        for number in range(10):
            results.send(jobs.recv(30) + b" done", 30)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[3])
    with Channel.open_sender(sys.argv[1], 30) as jobs, Channel.open_receiver(sys.argv[2], 30) as results:
        with Channel.open_receiver(sys.argv[1], 30) as taking, Channel.open_sender(sys.argv[2], 30) as giving:
            workers = [context.Process(target=work, args=(taking, giving)) for _ in range(2)]
            for worker in workers:
                worker.start()
        for number in range(20):
            jobs.send(b"%d" % number, 30)
        done = sorted(results.recv(30) for _ in range(20))
        assert done == sorted(b"%d done" % number for number in range(20)), done
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("scheme", ["ring", "mq", "sysv-mq"])
def test_processes_that_are_started_anew(method, scheme, tmp_path, fresh):
    program = tmp_path / "program.py"
    program.write_text(SPAWNED)
    addresses = []
    for end in ("jobs", "results"):
        (tmp_path / end).touch()
        addresses.append({
            "ring": f"ring:{tmp_path}/{end}-ring?persistent=1", "mq": f"mq:/{fresh(end)}", "sysv-mq": f"sysv-mq:{tmp_path}/{end}#7",
        }[scheme])
    try:
        subprocess.run([sys.executable, program, *addresses, method], check=True, timeout=50)
    finally:
        for address in addresses:
            Channel.remove(address)


def test_the_table_in_the_documentation():
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs/CHANNEL.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+):.*?` \| (.*) \|$", text.partition("- **in order**")[0], re.M)
    addresses = {"tcp": "tcp://h:1", "udp": "udp://h:1", "sysv-mq": "sysv-mq:.#1", "mq": "mq:/x", "pipe": "pipe:"}
    assert len(rows) == 12
    for scheme, row in rows:
        able = Channel.capabilities(addresses.get(scheme, f"{scheme}:x"))
        tick = {True: "yes", False: "–"}
        largest = "system" if scheme.endswith("mq") else "socket" if able.largest is None else str(able.largest)
        receivers = "all" if able.broadcast else "each" if able.many_receivers else "one"
        answers = "process" if able.credentials else tick[able.answers]
        assert row.split(" | ") == [
            tick[able.ordered], largest, str(able.priorities), able.durability, receivers, answers, tick[able.ends],
            tick[able.crosses_hosts], tick[able.may_lose],
        ], scheme
        assert able.boundaries and able.many_senders


def test_a_log_on_the_disk(tmp_path):
    address = f"file:{tmp_path}/log"
    able = Channel.capabilities(address)
    assert able.durability == "disk" and able.broadcast and able.many_receivers and not able.ends
    assert not Channel.capabilities(address + "?reader=a").many_receivers
    with Channel.open_sender(address + "?fsync=every&segment=4096") as sender:
        sender.send_batch([b"%d" % n for n in range(5)])
    with Channel.open_receiver(address + "?reader=a") as reader:
        assert [reader.recv(GENEROUS) for _ in range(2)] == [b"0", b"1"]
        with pytest.raises(OSError, match="reader=a") as caught:
            Channel.open_receiver(address + "?reader=a", GENEROUS)
        assert caught.value.errno == errno.EBUSY
    # A reader with a name goes on where it was; one without sees all of it, or what comes from now on.
    with Channel.open_receiver(address + "?reader=a") as reader, Channel.open_receiver(address) as other, \
            Channel.open_receiver(address + "?from=newest") as newest, Channel.open_sender(address) as sender:
        assert [message.data for message in reader.recv_batch(10, GENEROUS)] == [b"2", b"3", b"4"]
        assert len(other.recv_batch(10, GENEROUS)) == 5
        sender.send(b"5")
        sender.flush()
        assert newest.recv(GENEROUS) == b"5"
        reader.flush()
    # What an exception kept from being dealt with is received again.
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), Channel.open_receiver(address + "?reader=a") as reader:
            assert reader.recv(GENEROUS) == b"5"
            reader.put_back()
            assert reader.recv(GENEROUS) == b"5"
            raise ZeroDivisionError
    with Channel.pair("pipe:")[0] as other, pytest.raises(OSError, match="file: can"):
        other.put_back()
    # One that is killed gets again what it had not dealt with.
    program = f"import os, signal, wigwag; r = wigwag.Channel.open_receiver({address + '?reader=a'!r}); " \
              "assert r.recv(9) == b'5'; os.kill(os.getpid(), signal.SIGKILL)"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL
    segment = sorted((tmp_path / "log").glob("*.log"))[0]
    with Channel.open_receiver(address + "?reader=a") as reader:
        assert reader.recv(GENEROUS) == b"5"
    # What is damaged is told, counted, and passed over.
    content = bytearray(segment.read_bytes())
    content[96 + 40 + 36] ^= 1
    segment.write_bytes(content)
    with Channel.open_receiver(address) as reader:
        assert reader.recv(GENEROUS) == b"0"
        with pytest.raises(OSError, match="1 messages from number 2 on are lost") as caught:
            reader.recv(GENEROUS)
        assert caught.value.errno == errno.EBADMSG
        message = reader.recv_message(GENEROUS)
        assert message.data == b"2" and message.missed == 1 and reader.statistics().missed == 1
        Channel.remove(address)
        with pytest.raises(OSError) as caught:
            while True:
                reader.recv(GENEROUS)
        assert caught.value.errno == errno.ESTALE
    (tmp_path / "log").write_text("no log")
    with pytest.raises(OSError, match="a log of messages is a directory") as caught:
        Channel.open_receiver(address)
    assert caught.value.errno == errno.EBADMSG


def test_a_log_is_awaited(tmp_path):
    async def follow():
        with Channel.open_receiver(f"file:{tmp_path}/log?reader=r") as reader, Channel.open_sender(f"file:{tmp_path}/log") as sender:
            waits = asyncio.ensure_future(reader.recv_async(GENEROUS))
            await asyncio.sleep(0)
            await sender.send_async(b"hello", GENEROUS)
            assert await waits == b"hello"

    asyncio.run(follow())


def test_what_cannot_be_is_refused(fresh):
    for call in (Channel.capabilities, Channel.open_sender, Channel.open_receiver):
        with pytest.raises(OSError, match="carries no messages; these do: tcp:") as caught:
            call("mutex:m")
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="make a pair"):
        Channel.open_sender("pipe:")
    with pytest.raises(OSError, match="come in pairs"):
        Channel.pair("mq:/x")
    with pytest.raises(ConnectionRefusedError):
        Channel.open_sender(f"unix:@{fresh('nobody')}", timeout=0)
    with pytest.raises(FileNotFoundError):
        Channel.remove(f"mq:/{fresh('none')}")
    able = Channel.capabilities(wigwag.Address("topic:x"))
    assert able.broadcast and able.durability == "system" and able.ordered and not able.may_lose
    assert "broadcast=True" in repr(able)
