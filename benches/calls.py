"""What a Python call costs beside the standard library's: the same 64-byte send and receive, in turn, many rounds.

Prints one line for each operation: name, median of the standard library, median of wigwag, p99 of wigwag, in nanoseconds,
separated by tabs.
"""

import os
import socket
import statistics
import time

import wigwag

ROUNDS = 301
BATCH = 500
MESSAGE = bytes(64)


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


def measure(operation):
    start = time.perf_counter_ns()
    for _ in range(BATCH):
        operation()
    return (time.perf_counter_ns() - start) / BATCH


def main():
    for name, make in (("pipe write + read", pipe), ("eventfd add + take", eventfd), ("socket send + recv", unix_socket)):
        forms = make()
        samples = ([], [])
        for round in range(-5, ROUNDS):
            for turn in (0, 1) if round % 2 else (1, 0):
                taken = measure(forms[turn])
                if round >= 0:
                    samples[turn].append(taken)
        p99 = sorted(samples[1])[ROUNDS * 99 // 100]
        print(name, *(f"{statistics.median(sample):.1f}" for sample in samples), f"{p99:.1f}", sep="\t", flush=True)


if __name__ == "__main__":
    main()
