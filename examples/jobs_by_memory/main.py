"""Producers and consumers over shared memory and semaphores, put together by hand: a buffer of eight places.

``main.py MEMORY SEMAPHORES LOCK``: ``shm:/jobs`` or ``sysv-shm:.#1``, ``sem:/jobs`` or ``sysv-sem:.#2``, ``file:lock``. The
places say what there is; changing one takes the lock, which the kernel releases when its holder dies. The semaphores only say
when it is worth looking: one permit too many is harmless, and one that died with its taker is replaced. Two consumers are
killed with SIGKILL, one while it works and one while it holds the lock; others do their jobs again. Nothing is lost."""

import os
import signal
import struct
import sys

import wigwag

PRODUCERS, CONSUMERS, EACH, PLACES = 3, 4, 100, 8
PATIENCE = 30
PLACE = struct.Struct("=BBxxiI")  # state, how often taken, by whom, which job
EMPTY, FULL, TAKEN = 0, 1, 2
DONE, STOP, SIZE = 128, 500, 512  # a byte for each job that is done; a byte that says that no job will come
DIES_AT_WORK, DIES_WITH_THE_LOCK = 150, 220
memory_at, semaphores_at, lock_at = sys.argv[1:]
FILLED, ROOM = 0, 1

lock = wigwag.File.open(lock_at, create="if-missing")
kind = wigwag.Shm if memory_at.startswith("shm:") else wigwag.SysvShm
memory = kind.create(memory_at, SIZE)
if semaphores_at.startswith("sem:"):
    pair = [wigwag.Sem.create(f"{semaphores_at}-{name}", initial) for name, initial in (("filled", 0), ("room", PLACES))]
else:
    semaphores = wigwag.SysvSem.create(semaphores_at, [0, PLACES])


def take(which):
    if semaphores_at.startswith("sem:"):
        taken = pair[which].acquire(timeout=PATIENCE)
    else:
        # Permits come back by what is in the places, not by who died: so without the kernel's undo.
        semaphores.add(which, -1, PATIENCE)
        taken = True
    if not taken:
        raise TimeoutError("no permit")


def put(which, permits=1):
    if semaphores_at.startswith("sem:"):
        pair[which].release(permits)
    else:
        semaphores.add(which, permits)


def places(state):
    return [number for number in range(PLACES) if memory.buf[number * PLACE.size] == state]


def produce(producer):
    for job in range(producer * EACH, (producer + 1) * EACH):
        while True:
            take(ROOM)
            with lock.lock(timeout=PATIENCE):
                empty = places(EMPTY)
                if empty:
                    at = empty[0] * PLACE.size
                    PLACE.pack_into(memory.buf, at, EMPTY, 0, 0, job)
                    memory.buf[at] = FULL  # from here on it is sent
            if empty:
                break
        put(FILLED)


def consume():
    while True:
        take(FILLED)
        with lock.lock(timeout=PATIENCE):
            full = places(FULL)
            if not full:
                if memory.buf[STOP] and not places(TAKEN):
                    return
                continue
            at = full[0] * PLACE.size
            _, times, _, job = PLACE.unpack_from(memory.buf, at)
            PLACE.pack_into(memory.buf, at, FULL, times + 1, os.getpid(), job)
            memory.buf[at] = TAKEN  # from here on it is this process's
            if job == DIES_WITH_THE_LOCK and times == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if job == DIES_AT_WORK and times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        with lock.lock(timeout=PATIENCE):
            memory.buf[DONE + job] = 1  # from here on it is done
            memory.buf[at] = EMPTY
        put(ROOM)
        if memory.buf[STOP]:
            put(FILLED, CONSUMERS)  # that was the last one, maybe


def recover(dead):
    """Gives back what a dead process held; how many jobs will be done again."""
    again = 0
    with lock.lock(timeout=PATIENCE):
        for number in places(TAKEN):
            _, _, owner, job = PLACE.unpack_from(memory.buf, number * PLACE.size)
            if owner == dead:
                done = memory.buf[DONE + job]
                memory.buf[number * PLACE.size] = EMPTY if done else FULL
                again += not done
    # And the permit that it had taken in vain, or had not put back yet.
    put(FILLED, again + 1)
    put(ROOM)
    return again


def start(work, *arguments):
    """Runs it in a child, and gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


with wigwag.WaitSet() as waitset:
    producers = {start(produce, producer) for producer in range(PRODUCERS)}
    for pid in producers | {start(consume) for _ in range(CONSUMERS)}:
        waitset.add_child(pid, pid)
    sent, killed, again = 0, 0, 0
    while len(waitset):
        for event in waitset.wait(timeout=PATIENCE):
            pid = event.token
            waitset.remove(pid)
            status = os.waitpid(pid, 0)[1]
            killed += os.WIFSIGNALED(status)
            if status != 0:
                again += recover(pid)
            if pid in producers:
                sent += EACH if status == 0 else 0
                producers.remove(pid)
                if not producers:
                    memory.buf[STOP] = 1
                    put(FILLED, CONSUMERS)
done = sum(memory.buf[DONE : DONE + PRODUCERS * EACH])
print(f"{sent} sent, {done} done, {again} of them again after {killed} consumers were killed, {sent - done} lost")

kind.remove(memory_at)
if semaphores_at.startswith("sem:"):
    for semaphore in pair:
        wigwag.Sem.remove(semaphore.address)
else:
    semaphores.unlink()
lock.close()
wigwag.File.remove(lock_at)
