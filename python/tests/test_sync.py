"""Locks and the like in shared memory."""

import errno
import multiprocessing
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

KINDS = ["Mutex", "Permits", "Event", "Barrier", "RwLock"]


@pytest.fixture
def address(fresh):
    """Makes the address of a kind; the names are removed in the end."""
    made = []

    def address(kind):
        made.append((kind, f"{kind.__name__.lower()}:{fresh('sync')}"))
        return made[-1][1]

    yield address
    for kind, text in made:
        try:
            kind.remove(text)
        except FileNotFoundError:
            pass


def killed_holding(hold):
    """Runs `hold` in a child, which is killed after it."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            hold()
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    os.close(ready)
    os.close(told)


def in_thread(call):
    result = []
    thread = threading.Thread(target=lambda: result.append(call()))
    thread.start()
    thread.join()
    return result[0]


def test_a_mutex_has_the_shape_of_a_lock():
    with wigwag.Mutex.anonymous() as mutex:
        assert mutex.locked() and not mutex.inherited
        assert in_thread(lambda: mutex.acquire(False)) is False
        assert in_thread(lambda: mutex.acquire(timeout=SHORT)) is False
        with pytest.raises(OSError) as caught:
            mutex.acquire()
        assert caught.value.errno == errno.EDEADLK and "recursive" in caught.value.strerror
        me = [other for other in mutex.participants() if other.is_self][0]
        assert me.holding == 1 and me.pid == os.getpid() and me.waiting == 0
    assert not mutex.locked()
    with pytest.raises(PermissionError):
        mutex.release()
    mutex.close()
    with wigwag.Mutex.anonymous(recursive=True) as mutex:
        with mutex:
            assert in_thread(lambda: mutex.acquire(False)) is False
        assert mutex.locked()
    mutex.close()


def test_a_mutex_is_inherited_from_the_dead():
    mutex = wigwag.Mutex.anonymous()
    killed_holding(mutex.acquire)
    with mutex:
        assert mutex.inherited
    with mutex:
        assert mutex.inherited, "nobody has made good"
        mutex.consistent()
    with mutex:
        assert not mutex.inherited
    in_thread(mutex.acquire)
    assert mutex.acquire() and mutex.inherited, "a thread that ends has died"
    mutex.give_up()
    with pytest.raises(PermissionError):
        mutex.release()
    with pytest.raises(OSError) as caught:
        mutex.acquire()
    assert caught.value.errno == errno.ENOTRECOVERABLE
    mutex.close()


def test_permits_come_back_from_the_dead():
    permits = wigwag.Permits.anonymous(3)
    assert permits.acquire() and permits.acquire(n=2)
    assert permits.acquire(False) is False and permits.available == 0 and permits.total == 3
    with pytest.raises(ValueError, match="non-blocking"):
        permits.acquire(False, 1)
    permits.release(3)
    with pytest.raises(PermissionError):
        permits.release()
    killed_holding(lambda: permits.acquire(n=3))
    with permits:
        assert permits.available == 2
    with pytest.raises(OSError) as caught:
        permits.acquire(n=4)
    assert caught.value.errno == errno.EINVAL
    permits.close()


def test_an_event_has_the_shape_of_an_event():
    event = wigwag.Event.anonymous()
    assert event.wait(0) is False and event.wait(SHORT) is False and not event.is_set()
    pid = os.fork()
    if pid == 0:
        event.set()
        os._exit(0)
    assert event.wait(GENEROUS) is True
    os.waitpid(pid, 0)
    event.clear()
    assert not event.is_set() and not event.wait(0)
    bell = event.fileno()
    assert select.select([bell], [], [], 0)[0] == []
    event.set()
    assert select.select([bell], [], [], GENEROUS)[0] == [bell]
    event.close()
    with pytest.raises(ValueError, match="closed"):
        event.set()
    once = wigwag.Event.anonymous(auto_reset=True)
    once.set()
    assert once.wait() and not once.is_set()
    once.close()


def test_a_barrier_breaks_with_the_dead():
    barrier = wigwag.Barrier.anonymous(2)
    with pytest.raises(BlockingIOError):
        barrier.wait(0)
    with pytest.raises(TimeoutError):
        barrier.wait(SHORT)
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait(GENEROUS)
    thread.join()
    killed_holding(barrier.reset)
    with pytest.raises(OSError) as caught:
        barrier.wait(GENEROUS)
    assert caught.value.errno == errno.EOWNERDEAD and barrier.broken
    barrier.reset()
    assert not barrier.broken and barrier.parties == 2 and barrier.n_waiting == 0
    barrier.abort()
    assert barrier.broken
    barrier.close()


def test_many_read_or_one_writes():
    lock = wigwag.RwLock.anonymous()
    with lock.reading(), lock.reading(timeout=0):
        assert lock.acquire_write(False) is False
        assert [other.holding for other in lock.participants()] == [2]
    with lock.writing():
        assert in_thread(lambda: lock.acquire_read(timeout=SHORT)) is False
        with pytest.raises(OSError) as caught:
            lock.acquire_read()
        assert caught.value.errno == errno.EDEADLK
    for wrong in (lock.release_read, lock.release_write):
        with pytest.raises(PermissionError):
            wrong()
    killed_holding(lock.acquire_read)
    with lock.writing():
        assert not lock.inherited
    killed_holding(lock.acquire_write)
    with lock.reading():
        assert lock.inherited
    with lock.writing():
        lock.consistent()
        assert not lock.inherited
    assert lock.acquire_write()
    lock.give_up()
    with pytest.raises(OSError) as caught:
        lock.acquire_read()
    assert caught.value.errno == errno.ENOTRECOVERABLE
    lock.close()


def test_a_condition_has_the_shape_of_a_condition():
    mutex = wigwag.Mutex.anonymous()
    condition = wigwag.Condition.anonymous(mutex)
    with pytest.raises(PermissionError):
        condition.wait(0)
    with condition:
        assert mutex.locked() and condition.wait(SHORT) is False and mutex.locked()
        assert condition.wait_for(lambda: 0, SHORT) == 0
        assert condition.wait_for(lambda: 7) == 7
    assert not mutex.locked()
    cell = wigwag.Cell.anonymous()
    pid = os.fork()
    if pid == 0:
        with condition:
            cell.write(b"done")
            condition.notify()
        os._exit(0)
    with condition:
        assert condition.wait_for(cell.read, GENEROUS) == (b"done", 1)
    assert os.waitpid(pid, 0)[1] == 0
    condition.notify_all()
    cell.close()
    condition.close()
    mutex.close()


def test_a_condition_pickles_with_its_mutex(address):
    with wigwag.Mutex.open(address(wigwag.Mutex)) as mutex:
        pass
    condition = wigwag.Condition.open(address(wigwag.Condition), mutex)
    other = pickle.loads(pickle.dumps(condition))
    with other:
        assert mutex.locked() and other.address == condition.address
    for thing in (other, condition, mutex):
        thing.close()


def test_a_closed_one_ends_waits():
    event = wigwag.Event.anonymous()

    def wait():
        with pytest.raises(OSError) as caught:
            event.wait(GENEROUS)
        return caught.value.errno

    result = []
    thread = threading.Thread(target=lambda: result.append(wait()))
    thread.start()
    while not any(other.waiting for other in event.participants()):
        pass
    event.close()
    thread.join()
    assert result == [errno.ECANCELED]


@pytest.mark.parametrize("name", KINDS)
def test_by_name_by_descriptor_and_by_pickle(name, address):
    kind = getattr(wigwag, name)
    text = address(kind)
    one, two = kind.open(text), kind.open(wigwag.Address(text))
    assert one.address == two.address == text and text in repr(one)
    three = pickle.loads(pickle.dumps(one))
    four = kind.from_fd(os.dup(one.segment_fd()))
    assert len(one.participants()) == 4
    for other in (two, three, four):
        other.close()
    kind.remove(text)
    with pytest.raises(OSError) as caught:
        one.check()
    assert caught.value.errno == errno.ESTALE
    one.close()
    with pytest.raises(TypeError, match="no name"):
        pickle.dumps(kind.anonymous())
    with pytest.raises(ValueError, match="'adaptive', 'block' or 'poll'"):
        kind.open(text, wait="often")
    with pytest.raises(OSError) as caught:
        kind.open("cell:x")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        kind.anonymous(participants=257)
    assert caught.value.errno == errno.EINVAL


def count(mutex, event, path):
    """In a spawned process: adds to the number in a file, not in one step."""
    event.wait()
    for _ in range(50):
        with mutex:
            with open(path) as file:
                number = int(file.read())
            with open(path, "w") as file:
                file.write(str(number + 1))


def share(method, address_of_mutex, address_of_event, path):
    """The parent of such processes."""
    with wigwag.Mutex.open(address_of_mutex) as mutex:
        pass
    event = wigwag.Event.open(address_of_event)
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=count, args=(mutex, event, path)) for _ in range(3)]
    for process in processes:
        process.start()
    event.set()
    for process in processes:
        process.join(GENEROUS)
        assert process.exitcode == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_share_them(method, address, tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    # In a process of its own, as multiprocessing leaves a helper and its descriptor behind.
    arguments = [method, address(wigwag.Mutex), address(wigwag.Event), str(path)]
    subprocess.run([sys.executable, __file__, *arguments], check=True, timeout=GENEROUS)
    assert path.read_text() == "150"


if __name__ == "__main__":
    share(*sys.argv[1:])


def test_a_wait_that_is_interrupted_while_it_takes_the_mutex_again_has_it():
    class Interrupted(Exception):
        pass

    handled = threading.Event()

    def handler(*_):
        handled.set()
        raise Interrupted

    def notify():
        with mutex:
            condition.notify()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            assert handled.wait(GENEROUS)

    mutex = wigwag.Mutex.anonymous()
    condition = wigwag.Condition.anonymous(mutex)
    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=notify)
    try:
        with mutex:
            thread.start()
            with pytest.raises(Interrupted):
                condition.wait(GENEROUS)
            assert mutex.is_mine()
        with pytest.raises(TimeoutError):
            wigwag.EventFd().take(SHORT)  # which the exception does not come out of
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
