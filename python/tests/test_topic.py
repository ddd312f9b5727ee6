"""Messages through shared memory, to everybody who listens."""

import asyncio
import errno
import os
import pickle
import select
import signal
import subprocess
import sys
import threading

import pytest
from conftest import GENEROUS, SHORT

import wigwag


def test_each_message_goes_to_all():
    with wigwag.Topic.anonymous() as topic, topic.subscribe() as one, topic.subscribe(lossy=True) as two:
        messages = [b"", b"x", bytes(1024), memoryview(b"view"), bytearray(b"array")]
        assert [topic.publish(message) for message in messages] == [1, 2, 3, 4, 5]
        for subscription in (one, two):
            for sequence, message in enumerate(messages, 1):
                received = subscription.recv()
                assert (received.data, received.sequence, received.missed) == (bytes(message), sequence, 0)
            with pytest.raises(BlockingIOError):
                subscription.recv(0)
            with pytest.raises(TimeoutError):
                subscription.recv(SHORT)
            assert subscription.missed == 0
        with pytest.raises(OSError) as caught:
            topic.publish(bytes(1025))
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 1024
        seen = topic.statistics()
        assert (seen.sent, seen.participants, seen.subscribers, seen.largest) == (5, 1, 2, 1024)
        assert sorted(subscriber.lossless for subscriber in topic.subscribers()) == [False, True]
        assert topic.participants()[0].pid == os.getpid()
        assert "sequence=5" in repr(received) and "sent=5" in repr(seen) and "lag=0" in repr(topic.subscribers()[0])


def test_a_large_message_comes_whole():
    with wigwag.Topic.anonymous(1 << 20, 100_000) as topic, topic.subscribe() as subscription:
        message = os.urandom(99_999)
        topic.publish(message)
        assert subscription.recv(GENEROUS).data == message


def test_several_in_one_call():
    with wigwag.Topic.anonymous() as topic, topic.subscribe() as subscription:
        messages = [bytes([number]) * number for number in range(10)]
        assert topic.publish_batch(messages, GENEROUS) == 10
        assert [message.data for message in subscription.recv_batch(4)] == messages[:4]
        assert [(message.data, message.sequence) for message in subscription.recv_batch()] == [
            (messages[number], number + 1) for number in range(4, 10)]
        with pytest.raises(BlockingIOError):
            subscription.recv_batch(timeout=0)
        with pytest.raises(OSError) as caught:
            topic.publish_batch([bytes(1025)])
        assert caught.value.errno == errno.EMSGSIZE


def test_a_lossy_subscriber_is_told_how_much_it_missed():
    with wigwag.Topic.anonymous(depth=4) as topic, topic.subscribe(lossy=True) as subscription:
        for number in range(100):
            topic.publish(bytes([number]))
        received, missed = subscription.recv(GENEROUS), subscription.missed
        assert received.missed == missed == received.sequence - 1 > 0
        assert received.data == bytes([received.sequence - 1])
        room = bytearray(4)
        assert subscription.recv_into(room) == (1, received.sequence + 1, 0)
        with pytest.raises(OSError) as caught:
            subscription.borrow()
        assert caught.value.errno == errno.ENOTSUP


def test_a_publisher_waits_for_a_lossless_subscriber():
    with wigwag.Topic.anonymous(depth=4) as topic, topic.subscribe() as subscription:
        published = 0
        with pytest.raises(BlockingIOError):
            while True:
                topic.publish(b"x", 0)
                published += 1
        with pytest.raises(TimeoutError):
            topic.publish(b"x", SHORT)
        assert topic.subscribers()[0].lag == published
        thread = threading.Thread(target=lambda: topic.publish(b"waited for", GENEROUS))
        thread.start()
        for _ in range(published):
            assert subscription.recv(GENEROUS).data == b"x"
        assert subscription.recv(GENEROUS).data == b"waited for" and subscription.missed == 0
        thread.join()


def test_one_that_is_stuck_is_cut_off_and_told():
    with wigwag.Topic.anonymous(depth=4) as topic, topic.subscribe(stuck=SHORT) as subscription:
        for _ in range(20):
            topic.publish(b"x", GENEROUS)
        with pytest.raises(ConnectionAbortedError):
            while True:
                subscription.recv(GENEROUS)
        with pytest.raises(ConnectionAbortedError):
            subscription.recv(GENEROUS)
        assert topic.subscribers()[0].cut_off
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match="stuck"):
                topic.subscribe(stuck=wrong)


def test_one_that_comes_late_gets_what_history_it_asks_for():
    with wigwag.Topic.anonymous() as topic:
        for number in range(10):
            topic.publish(bytes([number]))
        with topic.subscribe(history=3) as subscription:
            assert [subscription.recv(GENEROUS).sequence for _ in range(3)] == [8, 9, 10]
        with topic.subscribe() as subscription, pytest.raises(BlockingIOError):
            subscription.recv(0)


def test_a_killed_subscriber_holds_up_nobody():
    with wigwag.Topic.anonymous(depth=4) as topic:
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            subscription = topic.subscribe()
            os.write(told, b"x")
            signal.pause()
        assert os.read(ready, 1) == b"x"
        assert topic.subscribers()[0].pid == pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)
        for _ in range(20):
            topic.publish(b"x", GENEROUS)
        assert topic.subscribers() == []


def test_a_subscription_stays_the_parents():
    with wigwag.Topic.anonymous() as topic, topic.subscribe() as subscription:
        topic.publish(b"message")
        pid = os.fork()
        if pid == 0:
            try:
                subscription.recv(0)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert subscription.recv(GENEROUS).data == b"message"
        with pytest.raises(TypeError):
            pickle.dumps(subscription)


def test_a_descriptor_to_poll():
    with wigwag.Topic.anonymous() as topic, topic.subscribe() as subscription, wigwag.WaitSet() as waitset:
        waitset.add(subscription, 7)
        assert select.select([subscription], [], [], SHORT)[0] == []
        topic.publish(b"x")
        assert [event.token for event in waitset.wait(timeout=GENEROUS)] == [7]
        assert subscription.recv(0).data == b"x"
        with pytest.raises(BlockingIOError):
            subscription.recv(0)
        assert select.select([subscription], [], [], 0)[0] == []


def test_event_loops():
    async def main():
        with wigwag.Topic.anonymous(depth=2) as topic, topic.subscribe() as subscription:
            task = asyncio.create_task(subscription.recv_async(GENEROUS))
            await asyncio.sleep(0.01)
            assert await topic.publish_async(b"x") == 1
            assert (await task).data == b"x"
            with pytest.raises(TimeoutError):
                await subscription.recv_async(SHORT)
            task = asyncio.create_task(subscription.recv_async())
            await asyncio.sleep(0.01)
            subscription.close()
            with pytest.raises(ValueError, match="closed"):
                await task

    asyncio.run(main())


def test_closing_ends_waits():
    topic = wigwag.Topic.anonymous()
    subscription, result = topic.subscribe(), []
    topic.close()

    def wait():
        try:
            subscription.recv(GENEROUS)
        except (OSError, ValueError) as error:
            result.append(getattr(error, "errno", errno.ECANCELED))

    thread = threading.Thread(target=wait)
    thread.start()
    subscription.close()
    thread.join()
    assert result == [errno.ECANCELED]


def test_by_name_by_descriptor_and_by_pickle(fresh):
    address = f"topic:{fresh('topic')}?capacity=8192&largest=100"
    with wigwag.Topic.open(address, wait="block") as topic, topic.subscribe() as subscription:
        try:
            with pickle.loads(pickle.dumps(topic)) as other, wigwag.Topic.from_fd(os.dup(topic.segment_fd())) as third:
                assert other.address == subscription.address == address.split("?")[0]
                assert third.statistics().largest == 100 and topic.statistics().participants == 3
                other.publish(b"seen")
                third.publish(b"too")
                assert subscription.recv(GENEROUS).data + subscription.recv(GENEROUS).data == b"seentoo"
        finally:
            wigwag.Topic.remove(address)
        with pytest.raises(OSError) as caught:
            topic.check()
        assert caught.value.errno == errno.ESTALE
    with wigwag.Topic.anonymous() as topic, pytest.raises(TypeError, match="no name"):
        pickle.dumps(topic)


SPAWN = """
import multiprocessing, sys, wigwag

def child(topic, ready):
    with topic.subscribe() as subscription:
        ready.set()
        assert subscription.recv(30).data == b"news"

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    topic, ready = wigwag.Topic.anonymous(), wigwag.Event.anonymous()
    process = context.Process(target=child, args=(topic, ready))
    process.start()
    assert ready.wait(30)
    topic.publish(b"news")
    process.join(30)
    assert process.exitcode == 0
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_between_processes_of_multiprocessing(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SPAWN)
    done = subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=GENEROUS)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
