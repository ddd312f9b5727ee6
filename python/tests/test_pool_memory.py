"""Process pools: large arguments and results, which go through memory that both sides share."""

import os
import threading
import weakref

import numpy
import pytest
from test_pool import GENEROUS, add, end, fail, identity, make, ours

from wigwag._pool_blocks import Reader, Writer, make_file
from wigwag.pool import ProcessPool, TaskLost

pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


def memory_of_results():
    """Bytes in the files in memory that this worker has: the smaller one is what its results went through."""
    names = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}
    files = {os.stat(f"/proc/self/fd/{fd}").st_ino: int(fd) for fd, name in names.items() if "memfd:wigwag-pool" in name}
    return min(os.fstat(fd).st_size for fd in files.values())


put_aside = []


def put_aside_and_return(array):
    put_aside.append(array)
    return array


def what_was_put_aside():
    return put_aside[-1].sum()


def add_in_place(array):
    array += 1
    return array


def halves(array):
    return array[: len(array) // 2], array[len(array) // 2 :]


def fork_and_return(holder, reader, writer):
    array = holder.pop()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        gone = weakref.ref(array)
        del array
        os._exit(gone() is not None)
    return array


def fail_with(array):
    raise ValueError(array[0])


def many(count):
    return [numpy.full(1, float(number)) for number in range(count)]


def all_but_one(array):
    return array[1:], array[:-1]


def last_ten(array):
    return array[-10:]


def wait_for_child():
    return os.wait()[1]


def sum_of(arrays):
    return sum(array.sum() for array in arrays)


def double(array):
    return array * 2


@ours
def test_large_arrays_go_through_shared_memory(kind):
    with make(kind) as pool:
        array = numpy.arange(300_000, dtype=float)
        for _ in range(20):
            assert numpy.array_equal(pool.submit(double, array).result(GENEROUS), array * 2)
        kept = [pool.submit(double, array + n).result(GENEROUS) for n in range(10)]
        text = os.urandom(200_000)
        assert pool.submit(identity, text).result(GENEROUS) == text
        mixed = pool.submit(identity, {"a": array, "b": [text, numpy.zeros(3)]}).result(GENEROUS)
        assert numpy.array_equal(mixed["a"], array) and mixed["b"][0] == text
        # A worker that dies takes nothing along that was given out.
        with pytest.raises(TaskLost):
            pool.submit(end, "kill").result(GENEROUS)
        assert pool.submit(identity, 1).result(GENEROUS) == 1
    assert all(numpy.array_equal(result, (array + n) * 2) for n, result in enumerate(kept))


def test_results_are_views_and_their_memory_is_used_again():
    with ProcessPool(1) as pool:
        array = numpy.ones(200_000)
        first = pool.submit(double, array).result(GENEROUS)
        assert not first.flags.owndata
        address = first.ctypes.data
        del first
        found = {pool.submit(double, array).result(GENEROUS).ctypes.data for _ in range(10)}
        assert len(found | {address}) <= 4


@ours
def test_a_result_that_is_part_of_the_argument_goes_back_in_place(kind):
    array = numpy.arange(200_000, dtype=float)
    with ProcessPool(1, kind) as pool:
        same = pool.submit(identity, array).result(GENEROUS)
        assert numpy.array_equal(same, array) and not numpy.shares_memory(same, array)
        assert same.flags.writeable
        one, two = pool.submit(halves, array).result(GENEROUS)
        assert numpy.array_equal(numpy.concatenate([one, two]), array)
        kept = [pool.submit(add_in_place, array + n).result(GENEROUS) for n in range(10)]
        assert pool.submit(memory_of_results).result(GENEROUS) == 0
        same[:] = -1
    assert all(numpy.array_equal(result, array + n + 1) for n, result in enumerate(kept))


def blocks_in_use(pool):
    pool._writer.write([b""])  # which looks for what is free
    return len(pool._writer._used) - 1


def test_children_made_by_fork_free_nothing():
    array = numpy.ones(200_000)
    reader, writer = os.pipe()
    with ProcessPool(1, "fork") as pool:
        result = pool.submit(identity, array).result(GENEROUS)
        kept = pool.submit(double, array).result(GENEROUS)
        again = pool.submit(fork_and_return, [array], reader, writer).result(GENEROUS)
        pid = os.fork()
        if pid == 0:
            gone = weakref.ref(result), weakref.ref(kept)
            del result, kept
            os._exit(any(one() is not None for one in gone))
        assert os.waitpid(pid, 0)[1] == 0
        os.write(writer, b"x")
        assert pool.submit(wait_for_child).result(GENEROUS) == 0
        for _ in range(4):
            pool.submit(add_in_place, array + 5).result(GENEROUS)
            pool.submit(double, array + 5).result(GENEROUS)
        assert (result == 1).all() and (kept == 2).all() and (again == 1).all()
    os.close(reader)
    os.close(writer)


def test_what_workers_have_kept_is_free_when_they_have_gone():
    array = numpy.ones(200_000)
    with ProcessPool(1, "fork", max_tasks_per_child=1) as pool:
        for _ in range(12):
            pool.submit(put_aside_and_return, array).result(GENEROUS)
        assert blocks_in_use(pool) < 8


def test_a_block_is_free_when_nobody_reads_it_any_more():
    fd = make_file()
    writer, reader = Writer(fd, 1 << 16), Reader(fd, 3)

    def written():
        return writer.write([bytes(70_000)], keep=True)

    first, size = written()
    assert written()[0] != first
    writer.let_go(first, unread=False)  # by nobody: its task failed before
    assert written()[0] == first
    views = reader.read(first, size, [70_000])
    writer.let_go(first, unread=False)
    assert written()[0] != first
    writer.forget(3)
    assert written()[0] == first
    assert reader.is_in_use(first) and len(views[0]) == 70_000
    writer.close()


def test_a_task_that_raised_keeps_nothing():
    with ProcessPool(1, "fork") as pool:
        with pytest.raises(ValueError):
            pool.submit(fail_with, numpy.ones(200_000)).result(GENEROUS)
        assert blocks_in_use(pool) == 0


@pytest.mark.parametrize("address, count", [("pipe:", 9000), ("mq:/{}?depth=4&size=512", 200)])
def test_any_number_of_buffers(fresh, address, count):
    with ProcessPool(1, "fork", address=address.format(fresh("many"))) as pool:
        assert pool.submit(sum_of, many(count)).result(GENEROUS) == sum(range(count))
        assert sum_of(pool.submit(many, count).result(GENEROUS)) == sum(range(count))
        assert blocks_in_use(pool) == 0


def a_function_whose_name_is_longer_than_the_messages_of_its_address_are_which_is_no_reason_for_it_not_to_run(array):
    return array.sum()


def test_a_long_name_over_small_messages(fresh):
    function = a_function_whose_name_is_longer_than_the_messages_of_its_address_are_which_is_no_reason_for_it_not_to_run
    with ProcessPool(1, "fork", address=f"mq:/{fresh('name')}?depth=4&size=128") as pool:
        assert pool.submit(function, numpy.ones(200_000)).result(GENEROUS) == 200_000
        assert pool.submit(function, numpy.ones(3)).result(GENEROUS) == 3


def test_an_empty_array_beside_a_large_one():
    with ProcessPool(1, "fork") as pool:
        one, two = pool.submit(identity, (numpy.empty(0), numpy.ones(200_000))).result(GENEROUS)
        assert one.size == 0 and two.sum() == 200_000
        assert pool.submit(memory_of_results).result(GENEROUS) == 0


def test_its_memory_is_used_again():
    with ProcessPool(1) as pool:
        array = numpy.ones(200_000)
        found = {pool.submit(identity, array).result(GENEROUS).ctypes.data for _ in range(10)}
        assert len(found) <= 2
        assert pool.submit(memory_of_results).result(GENEROUS) == 0


def test_a_result_that_somebody_else_has_or_that_is_little_is_copied():
    array = numpy.arange(200_000, dtype=float)
    with ProcessPool(1) as pool:
        result = pool.submit(put_aside_and_return, array).result(GENEROUS)
        result[:] = 0
        assert pool.submit(what_was_put_aside).result(GENEROUS) == array.sum()
        assert pool.submit(memory_of_results).result(GENEROUS) > 0
    with ProcessPool(1) as pool:
        one, two = pool.submit(all_but_one, array).result(GENEROUS)
        one[:] = 0
        assert numpy.array_equal(two, array[:-1])
        assert pool.submit(memory_of_results).result(GENEROUS) > 0
    with ProcessPool(1) as pool:
        little = pool.submit(last_ten, array).result(GENEROUS)
        assert numpy.array_equal(little, array[-10:])
        assert pool.submit(memory_of_results).result(GENEROUS) > 0


@pytest.mark.parametrize("address", ["ring:{}?largest=256&capacity=16384", "mq:/{}?depth=4&size=512"])
def test_what_the_address_does_not_carry_goes_through_shared_memory(fresh, address):
    text = "x" * 3000
    with ProcessPool(2, "fork", address=address.format(fresh("pool"))) as pool:
        assert pool.submit(identity, text).result(GENEROUS) == text
        assert pool.submit(fail, text).exception(GENEROUS).args == (text,)
        array = numpy.arange(200_000, dtype=float)
        assert numpy.array_equal(pool.submit(identity, array).result(GENEROUS), array)
        assert list(pool.map(add, range(500))) == list(range(500))


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_handler_may_write_in_the_middle_of_a_write(monkeypatch, fails):
    """As one that submits a task does when it interrupts another such call."""
    writer, found, allocate = Writer(make_file(), 1 << 16), [], os.posix_fallocate

    def interrupted(*where):
        monkeypatch.setattr(os, "posix_fallocate", allocate)
        found.append(writer.write([b"h" * 100_000]))
        if fails:
            raise MemoryError
        allocate(*where)

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    thread = threading.Thread(target=lambda: found.append(outcome(lambda: writer.write([b"w" * 100_000]))), daemon=True)
    thread.start()
    thread.join(GENEROUS / 2)
    assert len(found) == 2, "it waits for itself"
    if fails:
        assert isinstance(found.pop(), MemoryError)
    found.append(writer.write([b"a" * 200_000]))
    ends = sorted((offset, offset + size) for offset, size in found)
    assert all(end <= start for (_, end), (start, _) in zip(ends, ends[1:])), "no two in one place"
    writer.close()


def outcome(call):
    try:
        return call()
    except Exception as error:
        return error


def test_a_block_whose_writing_fails_is_free_again():
    writer = Writer(make_file(), 1 << 16)
    try:
        with pytest.raises(TypeError):
            writer.write([memoryview(b"x"), UnknownPart()])
        assert writer.write([b"x"])[0] == 0
    finally:
        writer.close()


class UnknownPart:
    def __len__(self):
        return 1


def test_many_blocks_in_use_are_looked_at_now_and_then_only(monkeypatch):
    writer = Writer(make_file(), 1 << 16)
    looks = []
    reclaim = writer._reclaim
    monkeypatch.setattr(writer, "_reclaim", lambda: (looks.append(1), reclaim()))
    try:
        for _ in range(1000):
            writer.write([b"x"])
        assert len(looks) < 150
        for offset in list(writer._used):
            writer.let_go(offset, unread=True)
        end = os.fstat(writer.fd).st_size
        for _ in range(900):
            writer.write([b"x"])
        assert os.fstat(writer.fd).st_size <= end + (end >> 3)
    finally:
        writer.close()
