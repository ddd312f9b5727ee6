#!/usr/bin/env python3
"""Measures what wigwag calls cost beside the system calls they stand for, and prints the tables in Markdown.

Run by `make bench`, after the library is built; `--python PYTHON` names an interpreter that has the module. Nothing else
should run on the machine meanwhile. docs/FIGURES.md holds what one run printed.
"""

import argparse
import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

#: What the ratio to the raw sequence should not pass; the POSIX semaphore makes no system call.
TO_REACH = {"sem acquire + release": 1.5}
#: The same for the standard library's call.
TO_REACH_IN_PYTHON = {
    "queue, one way to a process": 0.1,
    "1 MiB array through a ring, beside numpy.copyto twice": 1.15,
    "1 MiB array in place, beside numpy.copyto twice": 0.1,
}


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU implementer")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def first_line(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def build(compiler, name):
    program = BUILD / name
    subprocess.run([compiler, "-O2", "-std=c99", "-Wall", "-Wextra", f"-I{ROOT / 'include'}", ROOT / "benches" / f"{name}.c",
                    "-o", program, f"-L{BUILD / 'lib'}", f"-Wl,-rpath,{BUILD / 'lib'}", "-lwigwag", "-lrt", "-pthread"],
                   check=True)
    return program


def rows(command):
    """The lines of a measuring program, as they come."""
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield line.rstrip("\n").split("\t")
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed with status {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"))
    parser.add_argument("--python", help="an interpreter that has the module")
    arguments = parser.parse_args()
    calls = build(arguments.cc, "calls")

    print(f"Measured {time.strftime('%Y-%m-%d')} on {cpu()}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
          f"{first_line(arguments.cc, '--version')}, {first_line('rustc', '--version')}. "
          "Medians of 301 rounds, each form in turn; nanoseconds for one operation of 64 bytes.\n")
    print("## C calls\n")
    print("plain: the call as programs make it. raw: the cheapest system calls with the same promises (no SIGPIPE, a bounded "
          "wait). wigwag: through the C ABI.\n")
    print("| operation | plain | raw | wigwag | p99 | wigwag ÷ raw | to reach | wigwag ÷ plain |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for name, *figures in rows([calls]):
        plain, raw, ours, p99 = map(float, figures)
        print(f"| {name} | {plain:.0f} | {raw:.0f} | {ours:.0f} | {p99:.0f} | **{ours / raw:.3f}** | "
              f"≤ {TO_REACH.get(name, 1.05)} | {ours / plain:.3f} |", flush=True)
    if arguments.python:
        print(f"\n## Python calls\n\n{first_line(arguments.python, '--version')}; the standard library's call beside ours.\n")
        print("| operation | standard library | wigwag | p99 | ratio | to reach |")
        print("| --- | --: | --: | --: | --: | --: |")
        for name, *figures in rows([arguments.python, ROOT / "benches/calls.py"]):
            standard, ours, p99 = map(float, figures)
            print(f"| {name} | {standard:.0f} | {ours:.0f} | {p99:.0f} | **{ours / standard:.3f}** | "
                  f"≤ {TO_REACH_IN_PYTHON.get(name, 1.0)} |", flush=True)


if __name__ == "__main__":
    main()
