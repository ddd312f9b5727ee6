#!/usr/bin/env python3
"""The tour: runs every program of the document, rebuilt in C on wigwag, with real processes on both sides, and ends with
the document's comparison table, with what was measured on this machine just now.

Run by `make tour`, after `make lib`.
"""

import os
import pathlib
import platform
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from suite import BUILD, INCLUDE, ROOT, SHARED, TESTS, build  # noqa: E402

import run  # noqa: E402

#: The document's rows: mechanism, type, reliability, complexity, use; with what is measured for each: the link's name in
#: benches/table.c, what it is, and the C programs whose lines count.
TABLE = [
    ("Socket", "both", "high", "complex", "network", [
        ("tcp", "TCP, loopback", ["socket_server", "socket_client"]), ("unix", "Unix stream", [])]),
    ("File", "synchronous", "high", "simple", "data that lasts", [
        ("file", "append, watched", ["file_writer", "file_reader"])]),
    ("eventfd", "both", "high", "simple", "events", [("eventfd", "no data", ["eventfd"])]),
    ("Pipe", "synchronous", "high", "simple", "parent and child", [
        ("pipe", "anonymous", ["pipe"]), ("fifo", "named, FIFO", ["fifo_writer", "fifo_reader"])]),
    ("Signal", "asynchronous", "low", "simple", "notification", [("signal", "real-time, 4 bytes", ["signal"])]),
    ("Shared memory", "synchronous", "high", "complex", "large data", [
        ("shm", "one slot, two semaphores", ["shm"])]),
    ("Message queue", "asynchronous", "high", "medium", "structured messages", [
        ("sysv-mq", "System V", ["msgqueue"]), ("mq", "POSIX", [])]),
    ("Semaphore", "synchronous", "high", "medium", "synchronisation", [
        ("sysv-sem", "System V, no data", ["semaphore"]), ("sem", "POSIX, no data", [])]),
]


def show(scenario, directory):
    """Runs the programs of a scenario in C on wigwag and prints what they print."""
    print(f"\n--- {', '.join(dict.fromkeys(f'c-tests/document/{program.name}.c' for program in scenario))}")
    trouble = run.run_scenario(scenario, [[directory / program.name] for program in scenario])
    if trouble:
        sys.exit(trouble)
    for program in scenario:
        print("$", program.name, *(argument.replace("{found}", "PORT") for argument in program.arguments))
        print(program.prints, end="")


def lines_of(programs):
    """Lines of C, without comments and blank lines."""
    code = subprocess.run(["cc", "-fpreprocessed", "-dD", "-E", "-P", "-x", "c",
                           *(str(TESTS / "document" / f"{program}.c") for program in programs)],
                          check=True, capture_output=True, text=True).stdout
    return sum(1 for line in code.splitlines() if line.strip())


def per_second(text):
    if text == "-":
        return "–"
    rate = float(text)
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k" if rate >= 1e4 else f"{rate / 1e3:.1f} k"


def microseconds(text):
    return f"{float(text) / 1000:.1f}"


def print_table():
    program = BUILD / "table"
    build(["cc", "-O2", "-std=c99", "-Wall", "-Wextra", INCLUDE, ROOT / "benches/table.c", "-o", program, *SHARED])
    head = ["mechanism", "", "type", "round trip 64 B, µs: p50", "p99", "64 B messages/s", "64 KiB messages/s", "system calls a message",
            "lost when the receiver is killed", "reliability", "complexity", "lines of C", "use"]
    rows = [head]
    for mechanism, kind, reliability, complexity, use, links in TABLE:
        for name, what, programs in links:
            done = subprocess.run([program, name], capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                sys.exit(f"measuring {name} failed: {done.stderr}")
            _, p50, p99, small, large, calls, lost = done.stdout.rstrip("\n").split("\t")
            rows.append([mechanism, what, kind, microseconds(p50), microseconds(p99), per_second(small), per_second(large), calls,
                         lost, reliability, complexity, str(lines_of(programs)) if programs else "–", use])
            print(".", end="", flush=True)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    print()
    for n, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def main():
    directory = run.build_programs()
    print("The document's programs on wigwag. Each line marked $ is a process of its own.")
    for scenario in run.SCENARIOS:
        show(scenario, directory)
    print(f"\n--- The comparison table, measured now: Linux {platform.release()}, {os.cpu_count()} CPUs, through the C ABI; ends on "
          "CPUs of their own.\nMessages one way need no answer; the system calls are those of a send and its receive when nobody "
          "has to wait.\nLost: of the messages that waited when the receiver was killed, those that a new receiver did not get.")
    print_table()


if __name__ == "__main__":
    main()
