"""Python logging into one file, wigwag's handler beside the standard library's, in turn; prints a table in Markdown.

Run by `make bench-scenarios`. Nothing else should run on the machine meanwhile.
"""

import logging
import logging.handlers
import multiprocessing
import os
import platform
import statistics
import tempfile
import time

import wigwag
import wigwag.log

ROUNDS = 9
RECORDS = 4000  # of each process
FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"
CONTEXT = multiprocessing.get_context("fork")


def to_file(path, _):
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler


#: Name, and what makes a handler of a path and a queue.
KINDS = {
    "NullHandler": lambda path, queue: logging.NullHandler(),
    "FileHandler": to_file,
    "QueueHandler": lambda path, queue: logging.handlers.QueueHandler(queue),
    "wigwag": lambda path, queue: wigwag.log.Handler(f"log:bench-{os.path.basename(path)}", file=path),
}


def produce(kind, path, queue, start, told):
    log = logging.Logger("bench")
    handler = KINDS[kind](path, queue)
    log.addHandler(handler)
    log.info("warm up %d", 0)
    start.wait()
    began = time.perf_counter_ns()
    for number in range(RECORDS):
        log.info("record %d value %.3f of worker", number, 0.5 * number)
    told[:] = began, time.perf_counter_ns() - began
    handler.flush()
    handler.close()
    if queue is not None:
        queue.close()
        queue.join_thread()


def measure(kind, processes, folder):
    """Nanoseconds of a record for who logs it, and records a second until all are in the file."""
    path = os.path.join(folder, f"{kind}-{processes}-{time.monotonic_ns()}")
    queue = CONTEXT.Queue() if kind == "QueueHandler" else None
    start, told = CONTEXT.Barrier(processes + 1), [CONTEXT.RawArray("Q", 2) for _ in range(processes)]
    children = [CONTEXT.Process(target=produce, args=(kind, path, queue, start, one)) for one in told]
    for child in children:
        child.start()
    listener = logging.handlers.QueueListener(queue, to_file(path, None)) if queue is not None else None
    if listener:
        listener.start()
    start.wait()
    for child in children:
        child.join()
        assert child.exitcode == 0
    if listener:
        listener.stop()
    end = time.perf_counter_ns()
    if kind != "NullHandler":
        with open(path, "rb") as file:
            assert sum(1 for _ in file) == processes * (RECORDS + 1)
        os.remove(path)
    if kind == "wigwag":
        wigwag.Log.remove(f"log:bench-{os.path.basename(path)}")
    seconds = (end - min(began for began, _ in told)) / 1e9
    return statistics.mean(taken for _, taken in told) / RECORDS, processes * RECORDS / seconds


def main():
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {RECORDS} records of each process, medians of {ROUNDS} "
          "rounds in turn; to reach with 4 processes: a producer ≤ 1.5 × NullHandler, records in the file ≥ 1.2 × FileHandler "
          "and ≥ 6 × QueueHandler.\n")
    print("| handler | processes | ns a record for the producer | ÷ NullHandler | records/s in the file | ÷ FileHandler | ÷ QueueHandler |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 4):
            samples = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind, found in samples.items():
                    found.append(measure(kind, processes, folder))
            medians = {kind: tuple(map(statistics.median, zip(*found))) for kind, found in samples.items()}
            for kind, (producer, rate) in medians.items():
                ratios = [f"{rate / medians[other][1]:.2f}" if kind != "NullHandler" else "–" for other in ("FileHandler", "QueueHandler")]
                print(f"| {kind} | {processes} | {producer:.0f} | {producer / medians['NullHandler'][0]:.2f} | "
                      f"{f'{rate:,.0f}' if kind != 'NullHandler' else '–'} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
