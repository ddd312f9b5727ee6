"""Locks with the shapes of the standard library's: the same tests on the standard library's own, and on ours."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

from wigwag import stdlib

both = pytest.mark.parametrize("module", [threading, stdlib], ids=["threading", "wigwag"])
locks = pytest.mark.parametrize("kind", ["Lock", "RLock"])
semaphores = pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])


def in_thread(call):
    """What a call gives, or raises, on a thread of its own."""
    results = []

    def run():
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@both
@locks
def test_locks(module, kind):
    lock = getattr(module, kind)()
    assert lock.acquire() is True
    assert in_thread(lambda: lock.acquire(False)) is False
    assert in_thread(lambda: lock.acquire(blocking=False)) is False
    assert in_thread(lambda: lock.acquire(True, SHORT)) is False
    assert in_thread(lambda: lock.acquire(timeout=SHORT)) is False
    assert lock.release() is None
    with pytest.raises(RuntimeError):
        lock.release()
    with lock as entered:
        assert entered is True
        assert in_thread(lambda: lock.acquire(False)) is False
    assert lock.acquire(timeout=-1) is True and lock.release() is None
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    with pytest.raises(ValueError, match="timeout value must be"):
        lock.acquire(True, -2)
    with pytest.raises(ZeroDivisionError):
        with lock:
            1 / 0
    assert lock.acquire(False) is True
    lock.release()


@both
def test_a_lock_says_whether_it_is_locked(module):
    lock = module.Lock()
    assert lock.locked() is False
    with lock:
        assert lock.locked() is True
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=SHORT) is False
    assert lock.locked() is False


@both
def test_an_rlock_is_released_as_often_as_it_was_acquired(module):
    lock = module.RLock()
    with lock, lock:
        assert lock.acquire() is True
        lock.release()
        assert in_thread(lambda: lock.acquire(False)) is False
    assert in_thread(lambda: lock.acquire(False)) is True
    other = module.RLock()
    with other:
        assert isinstance(in_thread(other.release), RuntimeError), "of another thread"
    with pytest.raises(RuntimeError):
        other.release()


@both
@semaphores
def test_semaphores(module, kind):
    semaphore = getattr(module, kind)(2)
    assert semaphore.acquire() is True
    with semaphore as entered:
        assert entered is True
        assert semaphore.acquire(False) is False
        assert semaphore.acquire(timeout=SHORT) is False
        assert semaphore.acquire(blocking=True, timeout=SHORT) is False
    assert in_thread(semaphore.acquire) is True
    semaphore.release(2)
    assert semaphore.acquire() and semaphore.acquire()
    semaphore.release(n=2)
    with pytest.raises(ValueError):
        semaphore.release(0)
    with pytest.raises(ValueError, match="non-blocking"):
        semaphore.acquire(False, 1)
    with pytest.raises(ValueError, match="initial value"):
        getattr(module, kind)(-1)
    with getattr(module, kind)():
        pass


@both
def test_a_bounded_semaphore_refuses_one_too_many(module):
    semaphore = module.BoundedSemaphore(2)
    with pytest.raises(ValueError):
        semaphore.release()
    semaphore.acquire()
    with pytest.raises(ValueError):
        semaphore.release(2)
    semaphore.release()
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(False)


@both
def test_a_semaphore_may_be_raised_by_others_above_its_first_value(module):
    semaphore = module.Semaphore(0)
    assert semaphore.acquire(False) is False
    thread = threading.Thread(target=lambda: semaphore.release(3))
    thread.start()
    assert semaphore.acquire(timeout=GENEROUS) is True
    thread.join()
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(timeout=0)


@both
def test_events(module):
    event = module.Event()
    assert event.is_set() is False
    assert event.wait(SHORT) is False and event.wait(timeout=0) is False
    thread = threading.Timer(SHORT, event.set)
    thread.start()
    assert event.wait() is True
    thread.join()
    assert event.is_set() is True and event.wait(0) is True
    event.clear()
    assert event.is_set() is False


@both
@pytest.mark.parametrize("lock", [None, "Lock", "RLock"])
def test_conditions(module, lock):
    condition = module.Condition(getattr(module, lock)()) if lock else module.Condition()
    with pytest.raises(RuntimeError):
        condition.wait(SHORT)
    with pytest.raises(RuntimeError):
        condition.notify()
    with pytest.raises(RuntimeError):
        condition.notify_all()
    with pytest.raises(RuntimeError):
        condition.release()
    with condition as entered:
        assert entered is True
        assert condition.wait(SHORT) is False
        assert condition.wait_for(lambda: "at once") == "at once"
        assert condition.wait_for(lambda: 0, timeout=SHORT) == 0
        assert in_thread(lambda: condition.acquire(False)) is False
        condition.notify()
        condition.notify(n=2)
        condition.notify_all()
    assert condition.acquire() is True
    condition.release()


@both
def test_a_condition_wakes_as_many_as_are_notified(module):
    condition, woken, waiting = module.Condition(), [], []

    def wait():
        with condition:
            waiting.append(None)
            assert condition.wait(GENEROUS)
            woken.append(None)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    while True:
        with condition:
            if len(waiting) == 4:
                condition.notify(3)
                break
        time.sleep(0)
    while len(woken) < 3:
        time.sleep(0.001)
    assert len(woken) == 3
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()
    assert len(woken) == 4


@both
def test_a_condition_of_an_rlock_releases_it_whole(module):
    condition, done = module.Condition(module.RLock()), []

    def change():
        with condition:
            done.append(1)
            condition.notify()

    with condition, condition:
        thread = threading.Thread(target=change)
        thread.start()
        assert condition.wait_for(lambda: done, GENEROUS) == [1]
        assert in_thread(lambda: condition.acquire(False)) is False
    thread.join()


@both
def test_barriers(module):
    calls = []
    barrier = module.Barrier(3, action=lambda: calls.append(len(calls)), timeout=GENEROUS)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    numbers = []

    def meet():
        for round in range(5):
            numbers.append(barrier.wait())
            assert len(calls) > round, "nobody goes on before the action was done"

    threads = [threading.Thread(target=meet) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [0] * 5 + [1] * 5 + [2] * 5 and calls == [0, 1, 2, 3, 4]
    assert module.Barrier(1).wait() == 0
    with pytest.raises(ValueError):
        stdlib.Barrier(0)  # the standard library does so from 3.13 on


@both
def test_a_barrier_breaks_at_a_timeout_and_on_purpose(module):
    assert module.BrokenBarrierError is threading.BrokenBarrierError
    barrier = module.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(SHORT)
    assert barrier.broken is True
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert barrier.broken is False
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    assert barrier.wait(GENEROUS) in (0, 1)
    thread.join()
    barrier.abort()
    assert barrier.broken is True
    failing = module.Barrier(1, action=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.wait()
    assert failing.broken is True
    by_default = module.Barrier(2, timeout=SHORT)
    with pytest.raises(threading.BrokenBarrierError):
        by_default.wait()


@both
def test_a_reset_breaks_the_round_of_those_who_wait(module):
    barrier, results = module.Barrier(2), []

    def wait():
        try:
            results.append(barrier.wait(GENEROUS))
        except threading.BrokenBarrierError:
            results.append("broken")

    thread = threading.Thread(target=wait)
    thread.start()
    while barrier.n_waiting == 0:
        time.sleep(0.001)
    barrier.reset()
    thread.join()
    assert results == ["broken"]


# --- between processes, which threading's cannot ---


def killed_after(hold):
    """Runs `hold` in a child made by fork, which is killed after it."""
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
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(told)


@locks
def test_a_lock_is_inherited_from_a_killed_process(kind):
    lock = getattr(stdlib, kind)()
    killed_after(lock.acquire)
    with lock:
        assert lock.inherited
        lock.consistent()
    with lock:
        assert not lock.inherited


def test_a_condition_of_a_killed_process_goes_on():
    condition = stdlib.Condition()
    killed_after(condition.acquire)
    with condition:
        assert condition._lock.inherited
        condition._lock.consistent()
        assert condition.wait(SHORT) is False


def test_bounded_permits_come_back_from_a_killed_process_and_others_do_not():
    bounded, free = stdlib.BoundedSemaphore(2), stdlib.Semaphore(2)
    killed_after(lambda: bounded.acquire() and free.acquire())
    assert bounded.acquire() and bounded.acquire(timeout=GENEROUS) and not bounded.acquire(False)
    assert free.acquire() and not free.acquire(False)
    assert bounded.get_value() == 0 and free.get_value() == 0


def test_a_barrier_breaks_with_a_killed_process():
    barrier = stdlib.Barrier(3)

    def arrive():
        threading.Thread(target=barrier.wait).start()
        while barrier.n_waiting == 0:
            time.sleep(0.001)

    killed_after(arrive)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(GENEROUS)


def test_a_semaphore_has_a_limit_and_says_so():
    semaphore = stdlib.Semaphore(3, limit=3)
    semaphore.release()
    with pytest.raises(OverflowError, match="limit"):
        semaphore.release()
    assert semaphore.get_value() == 4, "rounded up"
    with pytest.raises(ValueError):
        stdlib.Semaphore(3, limit=2)
    with pytest.raises(ValueError, match="initial value"):
        stdlib.BoundedSemaphore(0)


def test_a_lock_tells_a_thread_that_would_wait_for_itself():
    lock = stdlib.Lock()
    with lock, pytest.raises(OSError) as caught:
        lock.acquire()
    assert caught.value.errno == errno.EDEADLK


KINDS = {
    "Lock": lambda **name: stdlib.Lock(**name),
    "RLock": lambda **name: stdlib.RLock(**name),
    "Semaphore": lambda **name: stdlib.Semaphore(3, **name),
    "BoundedSemaphore": lambda **name: stdlib.BoundedSemaphore(3, **name),
    "Condition": lambda **name: stdlib.Condition(**name),
    "Event": lambda **name: stdlib.Event(**name),
    "Barrier": lambda **name: stdlib.Barrier(3, **name),
}


def test_every_kind_is_tried():
    assert {name for name in stdlib.__all__ if hasattr(getattr(stdlib, name), "unlink")} >= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_by_name_and_by_pickle(kind, fresh):
    name = fresh("stdlib")
    one, two = KINDS[kind](name=name), KINDS[kind](name=name)
    three = pickle.loads(pickle.dumps(one))
    assert name in repr(one) and type(three) is type(one)
    if kind == "Event":
        one.set()
        assert two.is_set() and three.is_set()
    elif kind == "Barrier":
        two.abort()
        assert three.broken and three.parties == 3
    elif kind.endswith("Semaphore"):
        assert one.get_value() == three.get_value() == 3, "laid in once"
        assert one.acquire() and two.acquire() and three.acquire() and not two.acquire(False)
    else:
        with two:
            assert in_thread(lambda: three.acquire(False)) is False
    for thing in (one, two):
        thing.unlink() if thing is one else None
        thing.close()
        thing.close()
        assert thing.closed and "closed" in repr(thing)
    with pytest.raises(FileNotFoundError):
        three.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_name_a_pickle_is_refused(kind):
    thing = KINDS[kind]()
    thing.unlink()
    with pytest.raises(TypeError, match="no name.*started"):
        pickle.dumps(thing)
    thing.close()
    assert thing.closed
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(thing)


CHILD = """
import sys
import multiprocessing
from wigwag import stdlib

def child(lock, rlock, semaphore, bounded, condition, event, barrier):
    with lock, rlock, rlock, bounded:
        semaphore.release()
    barrier.wait(30)
    with condition:
        condition.notify()
    event.wait(30)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    name = {"name": sys.argv[2]} if sys.argv[2] else {}
    things = [stdlib.Lock(**name), stdlib.RLock(**(name and {"name": name["name"] + "r"})), stdlib.Semaphore(0, **(name and
              {"name": name["name"] + "s"})), stdlib.BoundedSemaphore(1, **name), None, stdlib.Event(**name),
              stdlib.Barrier(2, **name)]
    things[4] = stdlib.Condition(things[0], **name)
    lock, rlock, semaphore, bounded, condition, event, barrier = things
    process = context.Process(target=child, args=things)
    process.start()
    assert semaphore.acquire(timeout=30)
    with condition:
        assert barrier.wait(30) in (0, 1)
        assert condition.wait(30)
    event.set()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    for thing in things:
        thing.unlink()
    print("done")
"""


@pytest.mark.parametrize("named", [False, True], ids=["anonymous", "named"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_between_processes_of_multiprocessing(method, named, fresh, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CHILD)
    done = subprocess.run([sys.executable, program, method, fresh("mp") if named else ""], capture_output=True, text=True,
                          timeout=GENEROUS)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@both
@pytest.mark.parametrize("over", [-1, -0.5, -1e300])
def test_waits_that_are_over_already(module, over):
    condition = module.Condition()
    with condition:
        assert condition.wait(over) is False
        assert condition.wait_for(lambda: 0, over) == 0
        condition.notify(-1)
    assert module.Event().wait(over) is False
    for kind in (module.Semaphore, module.BoundedSemaphore):
        made = kind(1)
        assert made.acquire(timeout=over) is True
        assert made.acquire(timeout=over) is False
        with pytest.raises(ValueError, match="non-blocking"):
            made.acquire(False, over)
    barrier = module.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(over)
    assert barrier.broken
    assert module.Barrier(1).wait(over) == 0


def test_a_timeout_that_is_no_number_is_refused():
    for call in (stdlib.Event().wait, lambda nan: stdlib.Semaphore(0).acquire(timeout=nan), stdlib.Barrier(2).wait):
        with pytest.raises(ValueError):
            call(float("nan"))


@both
def test_an_action_may_take_longer_than_the_timeout(module):
    barrier = module.Barrier(2, action=lambda: time.sleep(3), timeout=2)
    other = threading.Thread(target=barrier.wait)
    other.start()
    barrier.wait()
    other.join()
    assert not barrier.broken
