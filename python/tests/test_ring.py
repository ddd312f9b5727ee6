"""Messages through shared memory."""

import asyncio
import errno
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag


def balanced(ring):
    seen = ring.statistics()
    assert seen.sent == seen.released + seen.borrowed + seen.queued + seen.dropped + seen.dead_lettered, seen
    return seen


def test_messages_come_whole_and_in_order():
    with wigwag.Ring.anonymous(4096, 64) as ring:
        messages = [b"", b"x", bytes(64), memoryview(b"view"), bytearray(b"array")]
        for message in messages:
            ring.send(message)
        for message in messages:
            received = ring.recv()
            assert received.data == bytes(message) and received.deliveries == 1
        with pytest.raises(BlockingIOError):
            ring.recv(0)
        with pytest.raises(TimeoutError):
            ring.recv(SHORT)
        with pytest.raises(OSError) as caught:
            ring.send(bytes(65))
        assert caught.value.errno == errno.EMSGSIZE
        assert balanced(ring).released == 5
        assert "deliveries=1" in repr(received) and "released=5" in repr(ring.statistics())


@pytest.mark.parametrize("full, refused, dropped", [("fail", True, 0), ("drop-newest", False, 3), ("drop-oldest", False, 3)])
def test_what_happens_when_it_is_full(full, refused, dropped):
    with wigwag.Ring.anonymous(4096, 64, full=full) as ring:
        slots = ring.statistics().slots
        for number in range(slots):
            ring.send(bytes([number]))
        for number in range(3):
            if refused:
                with pytest.raises(BlockingIOError):
                    ring.send(b"more", GENEROUS)
            else:
                ring.send(b"more")
        seen = balanced(ring)
        assert seen.dropped == dropped and seen.queued == slots
        assert ring.recv().data == bytes([3 if full == "drop-oldest" else 0])


def test_a_full_ring_is_waited_for():
    with wigwag.Ring.anonymous(1024, 64) as ring:
        for _ in range(ring.statistics().slots):
            ring.send(b"x")
        with pytest.raises(TimeoutError):
            ring.send(b"x", SHORT)
        thread = threading.Thread(target=lambda: ring.send(b"last", GENEROUS))
        thread.start()
        ring.recv()
        thread.join()
        assert balanced(ring).queued == ring.statistics().slots


def test_processes_work_together():
    with wigwag.Ring.anonymous(persistent=True) as ring:
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                for number in range(200):
                    ring.send(b"%d %d" % (child, number), GENEROUS)
                os._exit(0)
            children.append(pid)
        last = [-1, -1, -1]
        for _ in range(600):
            child, number = map(int, ring.recv(GENEROUS).data.split())
            assert number == last[child] + 1, "each producer's messages come in its order"
            last[child] = number
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert balanced(ring).sent == 600


def test_a_killed_producer_loses_nothing_that_it_had_sent():
    with wigwag.Ring.anonymous(role="consumer") as ring:
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            ring.send(b"sent")
            os.write(told, b"x")
            while True:
                time.sleep(1)
        os.read(ready, 1)
        os.close(ready)
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert ring.recv(GENEROUS).data == b"sent"
        with pytest.raises(BrokenPipeError):
            ring.recv(GENEROUS)


def test_closing_ends_waits():
    ring = wigwag.Ring.anonymous(persistent=True)
    result = []

    def wait():
        try:
            ring.recv(GENEROUS)
        except (OSError, ValueError) as error:
            result.append(getattr(error, "errno", errno.ECANCELED))

    thread = threading.Thread(target=wait)
    thread.start()
    ring.close()
    thread.join()
    assert result == [errno.ECANCELED]


def test_closing_in_a_child_gives_up_its_part_whatever_the_parents_threads_do(fresh):
    with wigwag.Ring.anonymous(4096, 64, persistent=True) as ring, wigwag.EventFd() as there, \
            wigwag.EventFd() as back:
        waits = threading.Thread(target=ring.recv, args=(GENEROUS,))
        waits.start()
        while not any(member.waiting for member in ring.participants()):
            time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            try:
                ring.statistics()  # takes part
                ring.close()
                there.add(1)
                back.take(GENEROUS)
            finally:
                os._exit(0)
        there.take(GENEROUS)
        assert len(ring.participants()) == 1
        back.add(1)
        os.waitpid(pid, 0)
        ring.send(b"")
        waits.join()


def test_by_name_by_descriptor_and_by_pickle(fresh):
    address = f"ring:{fresh('ring')}?capacity=8192&largest=100"
    with wigwag.Ring.open(address) as ring:
        try:
            with pickle.loads(pickle.dumps(ring)) as other, wigwag.Ring.from_fd(os.dup(ring.segment_fd())) as third:
                assert other.address == address.split("?")[0] and third.statistics().largest == 100
                other.send(b"seen")
                assert third.recv(GENEROUS).data == b"seen" and ring.statistics().participants == 3
        finally:
            wigwag.Ring.remove(address)
        with pytest.raises(OSError) as caught:
            ring.check()
        assert caught.value.errno == errno.ESTALE
    with wigwag.Ring.anonymous() as ring, pytest.raises(TypeError, match="no name"):
        pickle.dumps(ring)
    for wrong in ({"full": "burst"}, {"role": "spectator"}, {"wait": "often"}):
        with pytest.raises(ValueError, match="must be"):
            wigwag.Ring.anonymous(**wrong)


def test_what_is_the_handles_own_goes_with_its_pickle(fresh):
    address = f"ring:{fresh('ring')}?capacity=1024&largest=64"
    with wigwag.Ring.open(address, persistent=True) as ring:
        try:
            producer = wigwag.Ring.open(address, full="fail", role="producer", wait="block")
            other = pickle.loads(pickle.dumps(producer))
        finally:
            wigwag.Ring.remove(address)
        with producer, other:
            assert sorted(member.producer for member in ring.participants()) == [False, True, True]
            for _ in range(ring.statistics().slots):
                other.send(b"")
            with pytest.raises(BlockingIOError, match="does not wait"):
                other.send(b"", GENEROUS)
        me = [member for member in ring.participants() if member.is_self][0]
        assert me.pid == os.getpid() and not me.producer and me.holding == 0 and "is_self=True" in repr(me)


def test_what_the_address_says_of_the_handle_counts_in_every_call(fresh):
    name = f"ring:{fresh('ring')}"
    with wigwag.Ring.open(name, 4096, 64, lanes=4, persistent=True, redeliveries=1) as ring:
        try:
            second = wigwag.Ring.open(f"{name}?lane=2&full=fail")
            other = pickle.loads(pickle.dumps(second))
            dead = wigwag.Ring.open(f"{name}?dead-letters=1")
            dead_too = pickle.loads(pickle.dumps(dead))
        finally:
            wigwag.Ring.remove(name)
        with second, other, dead, dead_too:
            second.send(b"one")
            with other.reserve(3) as room:
                memoryview(room)[:] = b"two"
            assert [(ring.recv(0).lane, ring.recv(0).lane)] == [(2, 2)]
            ring.send(b"for the living")
            for handle in (dead, dead_too):
                with pytest.raises(BlockingIOError):
                    handle.recv(0)
            while True:
                try:
                    asyncio.run(asyncio.wait_for(second.send_async(b"full"), 30))
                except BlockingIOError:
                    break


def test_several_in_one_call():
    with wigwag.Ring.anonymous(4096, 64) as ring:
        slots = ring.statistics().slots
        messages = [bytes([number]) * number for number in range(slots + 3)]
        assert ring.send_batch(messages) == slots
        with pytest.raises(BlockingIOError):
            ring.send_batch([b"more"], 0)
        assert [message.data for message in ring.recv_batch(5)] == messages[:5]
        assert [message.data for message in ring.recv_batch()] == messages[5:slots]
        with pytest.raises(TimeoutError):
            ring.recv_batch(timeout=SHORT)
        with pytest.raises(OSError) as caught:
            ring.recv_batch(0)
        assert caught.value.errno == errno.EINVAL
        assert ring.send_batch([]) == 0 and ring.send_batch((b"a", memoryview(b"b"), bytearray(65))) == 2
        with pytest.raises(TypeError):
            ring.send_batch([1])
        assert balanced(ring).queued == 2


def test_what_comes_back_too_often_is_a_dead_letter():
    with wigwag.Ring.anonymous(redeliveries=1) as ring:
        ring.send(b"poison")
        ring.borrow().give_back()
        message = ring.borrow()
        assert message.deliveries == 2
        message.give_back()
        with pytest.raises(BlockingIOError):
            ring.recv(0)
        assert balanced(ring).dead_lettered == 1
        with wigwag.Ring.from_fd(os.dup(ring.segment_fd()), dead_letters=True) as letters:
            assert letters.recv(GENEROUS).data == b"poison"
        assert balanced(ring).dead_lettered == 0


def test_a_higher_lane_is_received_first():
    with wigwag.Ring.anonymous(lanes=3, lane=1) as ring:
        ring.send(b"middle")
        ring.send(b"low", lane=0)
        assert ring.send_batch([b"high", b"higher"], lane=2) == 2
        with ring.reserve(2, lane=2) as message:
            message.buf[:] = b"up"
        assert [(message.data, message.lane) for message in ring.recv_batch(4)] == [
            (b"high", 2), (b"higher", 2), (b"up", 2), (b"middle", 1)]
        with ring.borrow() as message:
            assert bytes(message) == b"low" and message.lane == 0
        for wrong in (lambda: ring.send(b"x", lane=3), lambda: ring.reserve(1, lane=3)):
            with pytest.raises(OSError) as caught:
                wrong()
            assert caught.value.errno == errno.EINVAL
        with wigwag.Ring.from_fd(os.dup(ring.segment_fd()), lane=2) as other:
            other.send(b"x")
            assert "lane=2" in repr(ring.recv())
        seen = ring.statistics()
        assert seen.lanes == 3 and seen.high_water <= 6
        assert wigwag.Ring.size_for(lanes=3) == seen.bytes


def test_what_is_short_takes_little():
    with wigwag.Ring.anonymous(largest=1 << 16, depth=4) as ring:
        for number in range(4):
            ring.send(bytes([number]) * (1 << 16), 0)
        with pytest.raises(BlockingIOError):
            ring.send(b"", 0)
        assert [ring.recv(0).data[:1] for _ in range(4)] == [bytes([number]) for number in range(4)]
        assert wigwag.Ring.size_for(largest=1 << 16, depth=4) == ring.statistics().bytes
    with wigwag.Ring.anonymous(1 << 20, 1 << 16, depth=1024) as ring:
        for _ in range(1024):
            ring.send(bytes(300), 0)
        with pytest.raises(BlockingIOError):
            ring.send(bytes(300), 0)


def test_descriptors_to_poll():
    with wigwag.Ring.anonymous(1024, 64) as ring, wigwag.WaitSet() as waitset:
        waitset.add(ring, 7)
        assert ring.room_fileno() != ring.fileno()
        assert select.select([ring], [], [], SHORT)[0] == []
        while select.select([ring.room_fileno()], [], [], SHORT)[0]:
            try:
                ring.send(b"x", 0)
            except BlockingIOError:
                pass
        assert [event.token for event in waitset.wait(timeout=GENEROUS)] == [7]
        ring.recv()
        assert select.select([ring.room_fileno()], [], [], GENEROUS)[0]


def test_one_who_waits_is_seen():
    with wigwag.Ring.anonymous() as ring, wigwag.Ring.from_fd(os.dup(ring.segment_fd())) as other:
        thread = threading.Thread(target=other.recv)
        thread.start()
        while not any(member.waiting for member in ring.participants()):
            time.sleep(0.001)
        assert [member.waiting_since is not None for member in ring.participants() if member.waiting] == [True]
        ring.send(b"x")
        thread.join()


SPAWN = """
import multiprocessing, sys, wigwag

def child(ring, cell):
    assert ring.recv(30).data == b"job"
    cell.write(b"value")
    ring.send(b"done")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ring, cell = wigwag.Ring.anonymous(full="fail"), wigwag.Cell.anonymous()
    ring.send(b"job")
    process = context.Process(target=child, args=(ring, cell))
    process.start()
    assert cell.wait(0, 30) == 1 and cell.read() == (b"value", 1)
    process.join(30)
    assert process.exitcode == 0 and ring.recv(30).data == b"done"
    print("done")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_without_a_name_they_go_to_processes_that_are_started(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SPAWN)
    done = subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=GENEROUS)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
