"""What a Python call costs beside the standard library's: the same work in turn, many rounds.

Prints one line for each operation: name, median of the standard library, median of wigwag, p99 of wigwag, in nanoseconds,
separated by tabs.
"""

import multiprocessing
import os
import signal
import socket
import statistics
import time

import numpy
import wigwag
from wigwag import stdlib

ROUNDS = 301
MESSAGE = bytes(64)
ARRAY = numpy.arange(1 << 17, dtype=numpy.float64)  # 1 MiB
CHILDREN = []


def pipe():
    read_fd, write_fd = os.pipe()
    reader, writer = wigwag.Pipe.open()

    def standard():
        os.write(write_fd, MESSAGE)
        os.read(read_fd, 4096)

    def ours():
        writer.write(MESSAGE)
        reader.read(4096)

    return standard, ours


def eventfd():
    fd = os.eventfd(0)
    events = wigwag.EventFd()

    def standard():
        os.eventfd_write(fd, 1)
        os.eventfd_read(fd)

    def ours():
        events.add(1)
        events.take()

    return standard, ours


def unix_socket():
    a, b = socket.socketpair()
    c, d = wigwag.Socket.pair()

    def standard():
        a.send(MESSAGE)
        b.recv(4096)

    def ours():
        c.send(MESSAGE)
        d.recv(4096)

    return standard, ours


def ring():
    reader, writer = multiprocessing.Pipe(duplex=False)
    made = wigwag.Ring.anonymous()

    def standard():
        writer.send_bytes(MESSAGE)
        reader.recv_bytes()

    def ours():
        made.send(MESSAGE)
        made.recv()

    return standard, ours


def topic():
    standard, _ = ring()
    made = wigwag.Topic.anonymous()
    subscription = made.subscribe()

    def ours():
        made.publish(MESSAGE)
        subscription.recv()

    return standard, ours


def cell():
    shared = multiprocessing.Array("c", 64)
    made = wigwag.Cell.anonymous()

    def standard():
        shared.raw = MESSAGE
        shared.raw

    def ours():
        made.write(MESSAGE)
        made.read()

    return standard, ours


def both(kind, *arguments):
    return getattr(multiprocessing, kind)(*arguments), getattr(stdlib, kind)(*arguments)


def lock(kind="Lock"):
    def form(made):
        def operation():
            made.acquire()
            made.release()

        return operation

    return tuple(map(form, both(kind)))


def event():
    def form(made):
        def operation():
            made.set()
            made.is_set()
            made.clear()

        return operation

    return tuple(map(form, both("Event")))


def simple_queue():
    def form(made):
        def operation():
            made.put(MESSAGE)
            made.get()

        return operation

    return tuple(map(form, both("SimpleQueue")))


def one_way():
    """A burst of messages to another process, until it has them all."""

    def form(made):
        ready, told = os.pipe()
        CHILDREN.append(os.fork())
        if CHILDREN[-1] == 0:
            while True:
                for _ in range(BURST):
                    made.get()
                os.write(told, b"x")

        def operation():
            for _ in range(BURST):
                made.put(MESSAGE)
            os.read(ready, 1)

        return operation

    return tuple(map(form, both("Queue")))


def copied():
    target, room = numpy.empty_like(ARRAY), numpy.empty_like(ARRAY)
    made = wigwag.Ring.anonymous(8 << 20, ARRAY.nbytes)

    def ours():
        made.send(ARRAY)
        made.recv_into(room)

    def standard():  # as often as bytes go from one place to another
        numpy.copyto(target, ARRAY)
        numpy.copyto(room, target)

    return standard, ours


def in_place():
    standard, _ = copied()
    made = wigwag.Ring.anonymous(8 << 20, ARRAY.nbytes)

    def ours():
        with made.reserve(ARRAY.nbytes) as message:
            numpy.frombuffer(message, dtype=numpy.float64)[0] = 1
        with made.borrow() as message:
            numpy.frombuffer(message, dtype=numpy.float64)[0]

    return standard, ours


BURST = 500
#: Name, what makes the two forms, how often each is called in a round, for how many operations one call stands. What forks
#: comes first: the standard library's queue has a thread from its first message on.
OPERATIONS = [
    ("queue, one way to a process", one_way, 1, BURST),
    ("pipe write + read", pipe, 500, 1),
    ("eventfd add + take", eventfd, 500, 1),
    ("socket send + recv", unix_socket, 500, 1),
    ("ring send + recv, beside a Connection", ring, 500, 1),
    ("topic publish + recv, beside a Connection", topic, 500, 1),
    ("cell write + read, beside an Array", cell, 500, 1),
    ("SimpleQueue put + get", simple_queue, 500, 1),
    ("Lock acquire + release", lock, 500, 1),
    ("RLock acquire + release", lambda: lock("RLock"), 500, 1),
    ("BoundedSemaphore acquire + release", lambda: lock("BoundedSemaphore"), 500, 1),
    ("Event set + is_set + clear", event, 500, 1),
    ("1 MiB array through a ring, beside numpy.copyto twice", copied, 5, 1),
    ("1 MiB array in place, beside numpy.copyto twice", in_place, 5, 1),
]


def measure(operation, calls, each):
    start = time.perf_counter_ns()
    for _ in range(calls):
        operation()
    return (time.perf_counter_ns() - start) / calls / each


def main():
    try:
        for name, make, calls, each in OPERATIONS:
            forms = make()
            samples = ([], [])
            for round in range(-5, ROUNDS):
                for turn in (0, 1) if round % 2 else (1, 0):
                    taken = measure(forms[turn], calls, each)
                    if round >= 0:
                        samples[turn].append(taken)
            p99 = sorted(samples[1])[ROUNDS * 99 // 100]
            print(name, *(f"{statistics.median(sample):.1f}" for sample in samples), f"{p99:.1f}", sep="\t", flush=True)
    finally:
        for child in CHILDREN:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
