"""The event loop glue by itself, on a plain pipe and an object that knows nothing but how to read from it."""

import asyncio
import errno
import math
import os
import threading

import pytest

import wigwag
from wigwag import _aio


class Reader:
    """Has the shape of every wigwag object: a method with a timeout, fileno, close."""

    def __init__(self, fd):
        self.fd = fd
        self.closed = False
        self.tries = 0
        os.set_blocking(fd, False)

    def fileno(self):
        if self.closed:
            raise ValueError("closed")
        return self.fd

    def take(self, timeout=None):
        if self.closed:
            raise ValueError("closed")
        if timeout != 0 and not timeout > 0:
            raise ValueError(f"timeout {timeout}")
        self.tries += 1
        try:
            return os.read(self.fd, 1)
        except BlockingIOError:
            if timeout == 0:
                raise
            raise TimeoutError(errno.ETIMEDOUT, "the deadline passed", "pipe:") from None

    def take_async(self, timeout=None):
        return _aio.call_when_ready(self.take, self.fileno, False, timeout)

    def close(self):
        if not self.closed:
            self.closed = True
            _aio.closing(self.fd)
            os.close(self.fd)


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    reader = Reader(read_end)
    yield reader, write_end
    reader.close()
    os.close(write_end)
    assert not _aio._queues, "somebody still waits"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_what_is_there_is_taken_at_once(pipe):
    reader, write_end = pipe
    os.write(write_end, b"a")
    assert run(reader.take_async()) == b"a"
    assert reader.tries == 1


def test_waits_for_data(pipe):
    reader, write_end = pipe

    async def main():
        task = asyncio.create_task(reader.take_async(timeout=30))
        await asyncio.sleep(0.01)
        assert not task.done()
        os.write(write_end, b"b")
        return await task

    assert run(main()) == b"b"


def test_several_tasks_share_one_descriptor(pipe):
    reader, write_end = pipe

    async def main():
        tasks = [asyncio.create_task(reader.take_async()) for _ in range(5)]
        await asyncio.sleep(0)
        assert len(_aio._queues) == 1
        os.write(write_end, b"abcde")
        return await asyncio.gather(*tasks)

    assert sorted(run(main())) == [b"a", b"b", b"c", b"d", b"e"]


def test_one_byte_at_a_time_reaches_every_task(pipe):
    reader, write_end = pipe

    async def main():
        tasks = [asyncio.create_task(reader.take_async()) for _ in range(4)]
        for count in range(1, 5):
            os.write(write_end, b"x")
            while sum(task.done() for task in tasks) < count:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    assert run(main()) == [b"x"] * 4


def test_the_objects_own_timeout_error(pipe):
    reader, _ = pipe

    async def main():
        start = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError) as caught:
            await reader.take_async(timeout=0.02)
        assert asyncio.get_running_loop().time() - start >= 0.02
        return caught.value

    error = run(main())
    assert (error.errno, error.strerror, error.filename) == (errno.ETIMEDOUT, "the deadline passed", "pipe:")


def test_timeout_of_one_leaves_the_others_waiting(pipe):
    reader, write_end = pipe

    async def main():
        patient = asyncio.create_task(reader.take_async())
        with pytest.raises(TimeoutError):
            await reader.take_async(timeout=0.01)
        os.write(write_end, b"p")
        return await patient

    assert run(main()) == b"p"


@pytest.mark.parametrize("timeout, raised", [(0, BlockingIOError), (-1, ValueError), (math.nan, ValueError)])
def test_timeouts_that_wait_not_at_all(pipe, timeout, raised):
    with pytest.raises(raised):
        run(pipe[0].take_async(timeout=timeout))


def test_a_cancelled_task_takes_nothing(pipe):
    reader, write_end = pipe

    async def main():
        first, second = (asyncio.create_task(reader.take_async()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        os.write(write_end, b"s")
        assert await second == b"s"
        with pytest.raises(asyncio.CancelledError):
            await first

    run(main())


def test_a_task_cancelled_after_it_was_woken_passes_it_on(pipe):
    reader, write_end = pipe

    async def main():
        first, second = (asyncio.create_task(reader.take_async()) for _ in range(2))
        await asyncio.sleep(0)
        os.write(write_end, b"s")
        while not any(ready.done() for queue in _aio._queues.values() for ready in queue):
            await asyncio.sleep(0)
        first.cancel()
        assert await second == b"s"
        assert first.cancelled() or first.done()

    run(main())


def test_close_ends_the_waits(pipe):
    reader, _ = pipe

    async def main():
        tasks = [asyncio.create_task(reader.take_async()) for _ in range(3)]
        await asyncio.sleep(0)
        reader.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in run(main())] == [ValueError] * 3


def test_close_in_another_thread_ends_the_waits(pipe):
    reader, _ = pipe

    async def main():
        task = asyncio.create_task(reader.take_async())
        await asyncio.sleep(0)
        thread = threading.Thread(target=reader.close)
        thread.start()
        with pytest.raises(ValueError):
            await task
        thread.join()

    run(main())


def test_a_reused_number_is_a_new_descriptor(pipe):
    reader, _ = pipe

    async def main():
        task = asyncio.create_task(reader.take_async())
        await asyncio.sleep(0)
        number = reader.fd
        reader.close()
        read_end, write_end = os.pipe()
        if read_end != number:
            os.dup2(read_end, number)
            os.close(read_end)
        again = Reader(number)
        other = asyncio.create_task(again.take_async())
        await asyncio.sleep(0)
        os.write(write_end, b"n")
        assert await other == b"n"
        with pytest.raises(ValueError):
            await task
        again.close()
        os.close(write_end)

    run(main())


def test_two_loops_wait_for_one_descriptor(pipe):
    reader, write_end = pipe
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(run(reader.take_async()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    os.write(write_end, b"12")
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == [b"1", b"2"]


def test_waiting_to_write(pipe):
    reader, write_end = pipe
    os.set_blocking(write_end, False)

    def send(data, timeout=None):
        if os.write(write_end, data) != len(data):
            raise BlockingIOError(errno.EAGAIN, "full")

    async def main():
        with pytest.raises(BlockingIOError):
            while True:
                send(bytes(4096), timeout=0)
        task = asyncio.create_task(_aio.call_when_ready(send, lambda: write_end, True, 30, bytes(4096)))
        await asyncio.sleep(0)
        assert not task.done()
        os.read(reader.fd, 65536)
        await task

    run(main())


def test_a_partial_transfer_is_not_repeated(pipe):
    reader, _ = pipe

    def part(timeout=None):
        raise BlockingIOError(errno.EAGAIN, "full", 5)

    with pytest.raises(BlockingIOError) as caught:
        run(_aio.call_when_ready(part, reader.fileno, True, None))
    assert caught.value.characters_written == 5


def test_a_descriptor_that_cannot_be_waited_for(pipe, tmp_path):
    with open(tmp_path / "file", "w") as file:

        def never(timeout=None):
            raise BlockingIOError(errno.EAGAIN, "not yet")

        with pytest.raises(PermissionError):
            run(_aio.call_when_ready(never, file.fileno, False, 1))


def test_rings_and_cells():
    async def main():
        with wigwag.Ring.anonymous(1024, 64) as ring, wigwag.Cell.anonymous() as cell:
            task = asyncio.create_task(ring.recv_async(30))
            waiting = asyncio.create_task(cell.wait_async(0, timeout=30))
            await asyncio.sleep(0.01)
            await ring.send_async(b"sent")
            assert (await task).data == b"sent" and not waiting.done()
            cell.write(b"value")
            assert await waiting == 1
            with pytest.raises(TimeoutError):
                await cell.wait_async(1, 0.01)
            with pytest.raises(TimeoutError):
                await ring.recv_async(0.01)
            task, waiting = asyncio.create_task(ring.recv_async()), asyncio.create_task(cell.wait_async(1))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ring.send(b"not taken by the cancelled")
            assert ring.recv(0).data == b"not taken by the cancelled"
            for _ in range(ring.statistics().slots):
                ring.send(b"x")
            with pytest.raises(TimeoutError):
                await ring.send_async(b"late", 0.01)
            task = asyncio.create_task(ring.send_async(b"late", lane=0))
            await asyncio.sleep(0.01)
            assert not task.done() and ring.recv().data == b"x"
            await task
            with wigwag.Ring.from_fd(os.dup(ring.segment_fd()), full="fail") as other, pytest.raises(BlockingIOError):
                await other.send_async(b"late")
            while ring.recv().data != b"late":
                pass
            task = asyncio.create_task(ring.recv_async())
            await asyncio.sleep(0.01)
            ring.close()
            with pytest.raises(ValueError, match="closed"):
                await task
            cell.close()
            with pytest.raises(ValueError, match="closed"):
                await waiting

    run(main())
