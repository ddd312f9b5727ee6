"""The one-to-one ring."""

import asyncio
import errno
import os
import pickle
import select
import threading

import numpy
import pytest
from conftest import GENEROUS, SHORT

import wigwag


@pytest.fixture
def ends():
    producer, consumer = wigwag.RingProducer.anonymous(4096, 256)
    yield producer, consumer
    producer.close()
    consumer.close()


def refused(number, call):
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number, caught.value


def test_messages_come_whole_and_in_order(ends):
    producer, consumer = ends
    messages = [b"", b"x", bytes(256), memoryview(b"view"), bytearray(b"array")]
    for message in messages:
        producer.send(message)
    for message in messages:
        received = consumer.recv(GENEROUS)
        assert (received.data, received.deliveries, received.lane) == (bytes(message), 1, 0)
    assert producer.send_batch([b"a", b"b"]) == 2
    room = bytearray(4)
    assert consumer.recv_into(room) == (1, 1) and room[:1] == b"a"
    refused(errno.EMSGSIZE, lambda: consumer.recv_into(bytearray(0)))
    assert consumer.recv().data == b"b"
    with pytest.raises(BlockingIOError):
        consumer.recv(0)
    with pytest.raises(TimeoutError):
        consumer.recv(SHORT)
    refused(errno.EMSGSIZE, lambda: producer.send(bytes(257)))
    seen = producer.statistics()
    assert seen.sent == seen.released == 7 and seen.participants == 2
    assert wigwag.RingProducer.size_for(4096, 256) == wigwag.RingConsumer.size_for(4096, 256) == seen.bytes


def test_batches(ends):
    producer, consumer = ends
    messages = [b"m%d" % number for number in range(10)]
    assert producer.send_batch(messages) == 10
    first = consumer.recv_batch(4)
    assert [(message.data, message.deliveries, message.lane) for message in first] == [(data, 1, 0) for data in messages[:4]]
    assert [message.data for message in consumer.recv_batch()] == messages[4:]
    with pytest.raises(BlockingIOError):
        consumer.recv_batch(timeout=0)
    with pytest.raises(TimeoutError):
        consumer.recv_batch(timeout=SHORT)
    refused(errno.EINVAL, lambda: consumer.recv_batch(0, 0))
    # Of any size together, and one of the largest alone.
    for size in (0, 1, 256, 255):
        producer.send(bytes(size))
    assert [len(message.data) for message in consumer.recv_batch(1)] == [0]
    assert [len(message.data) for message in consumer.recv_batch(10**6)] == [1, 256, 255]
    thread = threading.Thread(target=lambda: producer.send_batch([b"late"], GENEROUS))
    thread.start()
    assert [message.data for message in consumer.recv_batch(timeout=GENEROUS)] == [b"late"]
    thread.join()
    producer.send(b"last")
    producer.close()
    assert [message.data for message in consumer.recv_batch()] == [b"last"]
    with pytest.raises(BrokenPipeError):
        consumer.recv_batch()


def test_a_full_ring_is_waited_for(ends):
    producer, consumer = ends
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            producer.send(bytes(256), 0)
            sent += 1
    with pytest.raises(TimeoutError):
        producer.send(bytes(256), SHORT)
    thread = threading.Thread(target=lambda: producer.send(b"late", GENEROUS))
    thread.start()
    while consumer.recv(GENEROUS).data != b"late":
        sent -= 1
    thread.join()
    assert sent == 0


def test_in_place(ends):
    producer, consumer = ends
    with producer.reserve(80) as message:
        array = numpy.frombuffer(message, dtype=numpy.int64)
        array[:] = range(10)
        refused(errno.EBUSY, lambda: producer.send(b"x"))
        with pytest.raises(BufferError, match="views"):
            message.commit()
        del array
    with consumer.borrow(GENEROUS) as message:
        array = numpy.frombuffer(message, dtype=numpy.int64)
        assert array.sum() == 45 and message.deliveries == 1 and len(message) == 80
        refused(errno.EBUSY, consumer.recv)
        with pytest.raises(BufferError, match="views"):
            message.release()
        del array
    producer.reserve(1).abort()
    del message
    producer.reserve(1)  # and dropped
    producer.send(b"again")
    consumer.borrow()  # and dropped
    message = consumer.borrow()
    assert message.deliveries == 2
    message.give_back()
    with pytest.raises(ZeroDivisionError), consumer.borrow():
        1 / 0
    received = consumer.recv()
    assert (received.data, received.deliveries) == (b"again", 4)
    with pytest.raises(TimeoutError):
        consumer.borrow(SHORT)
    with pytest.raises(ValueError, match="closed"):
        message.release()
    producer.send(b"last")
    message = consumer.borrow()
    consumer.close()
    assert bytes(message) == b"last" and consumer.closed
    message.release()
    with pytest.raises(ValueError, match="closed"):
        consumer.recv()


def test_a_second_one_is_refused(fresh):
    address = f"ring:{fresh('one')}"
    with wigwag.RingProducer.open(address, 4096, 100, full="fail") as producer, wigwag.RingConsumer.open(address) as consumer:
        refused(errno.EBUSY, lambda: wigwag.RingProducer.open(address))
        refused(errno.EBUSY, lambda: wigwag.RingConsumer.open(address))
        refused(errno.EBADMSG, lambda: wigwag.Ring.open(address))
        with pytest.raises(TypeError):
            pickle.dumps(producer)
        with pytest.raises(BlockingIOError, match="does not wait"):
            while True:
                producer.send(bytes(100), GENEROUS)
        with pytest.raises(BlockingIOError, match="does not wait"):
            asyncio.run(asyncio.wait_for(producer.send_async(bytes(100)), 30))
        assert producer.address == consumer.address == address and address in repr(producer)
        producer.check()
        wigwag.Ring.remove(address)
        refused(errno.ESTALE, consumer.check)


def test_a_child_takes_an_end_of_its_own(ends):
    producer, consumer = ends
    consumer.close()
    fd = os.dup(producer.segment_fd())
    pid = os.fork()
    if pid == 0:
        try:
            producer.send(b"not ours")
        except PermissionError:
            with wigwag.RingConsumer.from_fd(fd) as own:
                os._exit(0 if own.recv(GENEROUS).data == b"job" else 1)
        os._exit(2)
    os.close(fd)
    producer.send(b"job")
    assert os.waitpid(pid, 0)[1] == 0
    seen = producer.statistics()
    assert seen.sent == seen.released == 1


def test_closing_ends_a_wait(ends):
    producer, consumer = ends
    result = []

    def wait():
        try:
            consumer.recv(GENEROUS)
        except (OSError, ValueError) as error:
            result.append(getattr(error, "errno", errno.ECANCELED))

    thread = threading.Thread(target=wait)
    thread.start()
    consumer.close()
    thread.join()
    assert result == [errno.ECANCELED]


def test_descriptors_and_event_loops(ends):
    producer, consumer = ends
    assert select.select([consumer], [], [], SHORT)[0] == []
    producer.send(b"x")
    assert select.select([consumer], [], [], GENEROUS)[0] == [consumer]
    assert consumer.recv().data == b"x"

    async def main():
        task = asyncio.create_task(consumer.recv_async(GENEROUS))
        await asyncio.sleep(0.01)
        await producer.send_async(b"sent")
        assert (await task).data == b"sent"
        task = asyncio.create_task(consumer.recv_async())
        await asyncio.sleep(0.01)
        consumer.close()
        with pytest.raises(ValueError, match="closed"):
            await task

    asyncio.run(main())


def test_a_task_that_waits_ends_when_another_thread_closes(ends, monkeypatch):
    from wigwag import _aio

    closing = _aio.closing
    told = threading.Event()

    def slowly(fd):
        closing(fd)
        told.wait(SHORT)  # for the loop to run meanwhile

    async def main():
        waits = asyncio.ensure_future(ends[1].recv_async())
        while not _aio._queues:
            await asyncio.sleep(0)
        thread = threading.Thread(target=ends[1].close)
        thread.start()
        with pytest.raises(ValueError, match="closed"):
            await asyncio.wait_for(waits, GENEROUS)
        told.set()
        thread.join()

    monkeypatch.setattr(_aio, "closing", slowly)
    asyncio.run(main())
