#!/usr/bin/env python3
"""Runs the document's programs: rebuilt on wigwag (here), on plain system calls (libc/), and their twins in Rust and
Python (examples/). All must print the same. Programs that talk to each other are tried in every mixture of the four.
Beside them, the examples for what the document has not.

Run from anywhere, after `make lib` and `cargo build --examples`. Python twins need --python, an interpreter that has
the package. To add a program, add a line to SCENARIOS, or OWN_SCENARIOS.
"""

import argparse
import contextlib
import itertools
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "python/tests"))

import postgres  # noqa: E402
import suite  # noqa: E402
from suite import BUILD, INCLUDE, ROOT, SHARED, TARGET, TESTS, WARNINGS, Totals, build, parallel  # noqa: E402

#: What may be included by none of the programs on wigwag: the header replaces them.
FORBIDDEN = re.compile(r'#\s*include\s*[<"](sys/(ipc|shm|msg|sem|socket|eventfd)|signal|fcntl)\.h[>"]')
PATIENCE = 30


class Program:
    """One program of a scenario.

    name       of the source: NAME.c, libc/NAME.c, examples/NAME/main.rs, examples/NAME/main.py; or examples/NAME/main.c
    arguments  with {found} for what `ready` found in the program before, {unique} for a name that no other run has
    prints     its whole standard output
    ready      a line (a pattern) of its standard error or output that it prints before what follows is done; None: what
               follows is done when it has ended
    signals    sent one after the other, each with the line that must have come before the next
    """

    def __init__(self, name, *arguments, prints, ready=None, signals=()):
        self.name, self.arguments, self.prints, self.ready, self.signals = name, arguments, prints, ready, signals


NOW = ""  # `ready` at once: the program is started, and the next one too

#: Programs in the order in which they are started. Each scenario has a working directory of its own.
SCENARIOS = [
    [Program("socket_server", "0", "127.0.0.1", ready=r"Listening at .*:(\d+)$", prints="Received: Hello from client\n"),
     Program("socket_client", "{found}", "127.0.0.1", prints="Sent: Hello from client\n")],
    [Program("file_writer", "ipc_file", prints=""),
     Program("file_reader", "ipc_file", prints="Hello from process A\n")],
    [Program("eventfd", prints="Event written\nEvent received: 1\n")],
    [Program("pipe", prints="Parent received: Hello from child\n")],
    [Program("fifo_writer", "myfifo", ready=NOW, prints=""),
     Program("fifo_reader", "myfifo", prints="Hello FIFO\n")],
    [Program("signal", ready="Waiting for signal...", prints="Waiting for signal...\n" + "Received signal 2\n" * 2,
             signals=[(signal.SIGINT, "Received signal 2"), (signal.SIGINT, "Received signal 2"), (signal.SIGTERM, None)])],
    [Program("shm", prints="Data written in memory: Hello Shared Memory\n")],
    [Program("msgqueue", prints="Received: Hello Message Queue\n")],
    # The second comes while the first is inside, and waits for it.
    [Program("semaphore", "0.2", ready="In critical section", prints="In critical section\n"),
     Program("semaphore", "0.01", "remove", prints="In critical section\n")],
]
LANGUAGES = ["c", "libc", "rust", "python"]

#: What is printed by all kinds of it.
CONNECTION_POOL = "Taken over from the dead: writing row 4\n3 rows, 6 leases of 2 slots\n"

#: Programs for what the document has not: wigwag's own transports and locks, and several mechanisms together; in Rust,
#: Python, and where there is a main.c beside them, C.
OWN_SCENARIOS = [
    [Program("ring", prints="Doing job 1\nDoing job 2\nDoing job 3\n3 sent, 3 done\n")],
    [Program("topic", prints="Child, 1: Rain\nChild, 2: Sun\nParent, 1: Rain\nParent, 2: Sun\n")],
    [Program("cell", prints="Value 3: 22 degrees\n")],
    [Program("lock", prints="Inherited from the dead: half\nConsistent: complete\n")],
    [Program("connection_pool", prints=CONNECTION_POOL)],
    *[[Program("asynchronous_log", f"log:./asynchronous_log?file=asynchronous.log{through}",
               prints="Records of each worker: 1000 1000 500\n")]
      for through in ("", "&through=mq", "&through=sysv-mq")],
    *[[Program("process_pool", address, prints="9592 primes below 100000; 1 task lost by signal 9\n")]
      for address in ("pipe:", "mq:/{unique}?depth=8&size=512", "ring:./pool?largest=4096")],
    *[[Program("jobs_by_queue", address, prints="300 sent, 299 done, 0 of them twice, 1 lost with 1 consumer killed\n")]
      for address in ("sysv-mq:.#65", "mq:/{unique}?depth=8&size=64", "ring:./jobs?capacity=4096&largest=64")],
    *[[Program("jobs_by_memory", memory, semaphores, "file:lock",
               prints="300 sent, 300 done, 2 of them again after 2 consumers were killed, 0 lost\n")]
      for memory, semaphores in (("shm:/{unique}", "sem:/{unique}"), ("sysv-shm:.#1", "sysv-sem:.#2"))],
]
#: What examples in C are linked with besides.
LIBRARIES = {"connection_pool": "sqlite3"}
OWN_LANGUAGES = ["c", "rust", "python"]


class Running:
    """A started program, whose lines are read as they come."""

    def __init__(self, command, directory):
        self.command = " ".join(map(str, command))
        self.process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace")
        self.lines, self.printed, self.complained = queue.Queue(), "", ""
        self.readers = [threading.Thread(target=self.read, args=(name,)) for name in ("stdout", "stderr")]
        for reader in self.readers:
            reader.start()

    def read(self, name):
        for line in getattr(self.process, name):
            if name == "stdout":
                self.printed += line
            else:
                self.complained += line
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_for(self, pattern):
        """Waits for a line, from standard output or error; gives what the pattern's group found in it."""
        ends = 0
        while ends < 2:
            line = self.lines.get(timeout=PATIENCE)
            ends += line is None
            match = line is not None and re.search(pattern, line)
            if match:
                return match[1] if match.re.groups else ""
        raise ValueError(f"{self.command} ended without printing {pattern!r}")

    def end(self, program):
        """Waits for its end, which must be a good one."""
        status = self.process.wait(PATIENCE)
        for reader in self.readers:
            reader.join(PATIENCE)
        complained = re.sub(program.ready, "", self.complained).strip() if program.ready else self.complained
        if status != 0 or complained or self.printed != program.prints:
            raise ValueError(f"{self.command} ended with status {status}\nprinted:  {self.printed!r}\n"
                             f"expected: {program.prints!r}\nstandard error: {self.complained}")


def run_scenario(scenario, commands):
    """Gives None, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="wwctest-document-") as directory, contextlib.ExitStack() as stack:
        found, unique, started = "", pathlib.Path(directory).name, []
        try:
            for program, command in zip(scenario, commands):
                arguments = [argument.format(found=found, unique=unique) for argument in program.arguments]
                running = Running([*command, *arguments], directory)
                stack.callback(running.process.kill)
                started.append((program, running))
                if program.ready is None:
                    running.end(program)
                elif program.ready != NOW:
                    found = running.wait_for(program.ready)
                for number, line in program.signals:
                    running.process.send_signal(number)
                    if line is not None:
                        running.wait_for(line)
            for program, running in started:
                running.end(program)
        except (ValueError, queue.Empty, subprocess.TimeoutExpired) as trouble:
            said = "\n".join(f"{running.command}: {running.printed!r} {running.complained}" for _, running in started)
            return f"{trouble!r}\n{said}"
    return None


def check_sources():
    names = {program.name for scenario in SCENARIOS for program in scenario}
    for folder, suffix in ((TESTS / "document", "*.c"), (TESTS / "document/libc", "*.c")):
        there = {path.stem for path in folder.glob(suffix)}
        if there != names:
            sys.exit(f"{folder.relative_to(ROOT)} and SCENARIOS differ: {sorted(there ^ names)}")
    own = {program.name for scenario in OWN_SCENARIOS for program in scenario}
    for name in names | own:
        for twin in ("main.rs", "main.py"):
            if not (ROOT / "examples" / name / twin).exists():
                sys.exit(f"examples/{name}/{twin} is missing")
    for name in names:
        for line in (TESTS / "document" / f"{name}.c").read_text().splitlines():
            if FORBIDDEN.match(line.strip()):
                sys.exit(f"{name}.c has {line}")


def build_programs():
    directory = BUILD / "document"
    (directory / "libc").mkdir(parents=True, exist_ok=True)
    common = ["cc", "-std=c99", *WARNINGS, "-D_GNU_SOURCE"]
    jobs = [[*common, INCLUDE, source, "-o", directory / source.stem, *SHARED]
            for source in (TESTS / "document").glob("*.c")]
    jobs += [[*common, source, "-o", directory / "libc" / source.stem]
             for source in (TESTS / "document/libc").glob("*.c")]
    (directory / "examples").mkdir(exist_ok=True)
    for source in (ROOT / "examples").glob("*/main.c"):
        name = source.parent.name
        variants = [(name, LIBRARIES.get(name), [])]
        if name == "connection_pool":
            variants.append((f"{name}-libpq", "libpq", ["-DWITH_LIBPQ"]))
        for program, library, flags in variants:
            if library is None or has_library(library):
                found = suite.command(["pkg-config", "--cflags", "--libs", library]).split() if library else []
                jobs.append([*common, *flags, INCLUDE, source, "-o", directory / "examples" / program, *found, *SHARED])
    parallel(build, jobs)
    return directory


def has_library(name):
    """Whether a library for the examples can be linked; says so if not, in the form of a skipped test."""
    if shutil.which("pkg-config") and subprocess.run(["pkg-config", "--exists", name]).returncode == 0:
        return True
    print(f"skip document/connection_pool: {name} is not installed")
    return False


def on_postgresql(totals, directory):
    """The pool of connections by libpq, on a real server."""
    program = directory / "examples/connection_pool-libpq"
    if not program.exists():
        return
    if postgres.binaries() is None:
        print("skip document/connection_pool: no PostgreSQL server is installed")
        return
    suite.command(["cargo", "build", "--quiet", "--package", "wigwag-example-libpq"])
    for language, program in (("c", program), ("rust", TARGET / "debug/connection_pool_libpq")):
        with postgres.server(20) as conninfo:
            trouble = run_scenario([Program("connection_pool", conninfo, prints=CONNECTION_POOL)], [[program]])
        totals.add("document", pathlib.Path(f"connection_pool ({language}, libpq)"), (1, [], trouble))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="an interpreter that has the wigwag package")
    python = parser.parse_args().python
    python = python and os.path.abspath(python)
    check_sources()
    directory = build_programs()
    languages = [language for language in LANGUAGES if python or language != "python"]
    if not python:
        print("skip document/python: no --python given")

    def command(language, name):
        own = (directory / "examples" / name).exists()
        return {"c": [directory / "examples" / name if own else directory / name], "libc": [directory / "libc" / name],
                "rust": [TARGET / "debug/examples" / name],
                "python": [python, "-W", "error", ROOT / "examples" / name / "main.py"]}[language]

    def written(scenario, choice, languages):
        """Those of the languages that the programs of a scenario are written in."""
        in_c = scenario in SCENARIOS or all((directory / "examples" / one.name).exists() for one in scenario)
        return [one for one in choice if one in languages and (in_c or one != "c")]

    runs = [(scenario, mixture) for scenarios, choice in ((SCENARIOS, LANGUAGES), (OWN_SCENARIOS, OWN_LANGUAGES))
            for scenario in scenarios
            for mixture in itertools.product(written(scenario, choice, languages), repeat=len(scenario))]
    results = parallel(lambda run: run_scenario(run[0], list(map(command, run[1], [p.name for p in run[0]]))), runs)
    totals = Totals()
    for (scenario, mixture), trouble in zip(runs, results):
        label = " + ".join(f"{program.name} ({language})" for program, language in zip(scenario, mixture))
        totals.add("document", pathlib.Path(label), (1, [], trouble))
    on_postgresql(totals, directory)
    totals.end()


if __name__ == "__main__":
    main()
