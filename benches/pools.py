"""Pools of two worker processes, wigwag's beside the standard library's, in turn; prints a table in Markdown.

Run by `make bench-scenarios` with an interpreter that has wigwag and NumPy. Nothing else should run on the machine meanwhile.
"""

import multiprocessing
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy
from wigwag.pool import ProcessPool

WORKERS = 2
ROUNDS = 11
ARRAY = numpy.arange(1 << 17, dtype=numpy.float64)  # 1 MiB


def trivial(number):
    return number + 1


def echo(array):
    return array


def make_another(array):
    return array + 1


class Executor:
    """What has the interface of concurrent.futures."""

    def __init__(self, made):
        self._made = made
        self.map = made.map
        self.close = made.shutdown

    def one(self, function, argument):
        return self._made.submit(function, argument).result()

    def burst(self, function, arguments):
        return [future.result() for future in [self._made.submit(function, one) for one in arguments]]


class Pool:
    """multiprocessing.Pool."""

    def __init__(self, made):
        self._made = made

    def one(self, function, argument):
        return self._made.apply(function, (argument,))

    def burst(self, function, arguments):
        return [result.get() for result in [self._made.apply_async(function, (one,)) for one in arguments]]

    def map(self, function, arguments, chunksize):
        return self._made.map(function, arguments, chunksize=chunksize)

    def close(self):
        self._made.close()
        self._made.join()


def submit_and_result(pool):
    for number in range(500):
        assert pool.one(trivial, number) == number + 1


def burst(pool):
    assert pool.burst(trivial, range(4000)) == list(range(1, 4001))


def mapped(pool, count, chunksize):
    assert list(pool.map(trivial, range(count), chunksize=chunksize)) == list(range(1, count + 1))


def arrays(pool):
    for _ in range(30):
        assert pool.one(echo, ARRAY)[-1] == ARRAY[-1]


def other_arrays(pool):
    for _ in range(30):
        assert pool.one(make_another, ARRAY)[-1] == ARRAY[-1] + 1


#: Name, what is done, for how many tasks it stands, and how often as many per second as each of the others are to be reached.
ROWS = [
    ("submit + result", submit_and_result, 500, 2, None),
    ("burst of 4000", burst, 4000, 10, 3),
    ("map, chunksize 1", lambda pool: mapped(pool, 4000, 1), 4000, 10, None),
    ("map, chunksize 100", lambda pool: mapped(pool, 50000, 100), 50000, None, None),
    ("1 MiB array there and back", arrays, 30, 20, None),
    ("1 MiB array there, another one back", other_arrays, 30, None, None),
]


def main():
    context = multiprocessing.get_context("fork")
    # Its workers are forked before there are threads.
    pools = [Pool(context.Pool(WORKERS)), Executor(ProcessPoolExecutor(WORKERS, mp_context=context)),
             Executor(ProcessPool(WORKERS, mp_context=sys.argv[1] if len(sys.argv) > 1 else "fork"))]
    for pool in pools:
        pool.burst(trivial, range(200))
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {WORKERS} workers, medians of {ROUNDS} rounds in "
          "turn (least to most); tasks per second.\n")
    print("| tasks | multiprocessing.Pool | ProcessPoolExecutor | wigwag | ÷ ProcessPoolExecutor | to reach | ÷ Pool | to reach |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for name, do, count, to_reach, to_reach_pool in ROWS:
        rates = [[], [], []]
        for round in range(ROUNDS):
            for turn in (0, 1, 2) if round % 2 else (2, 1, 0):
                start = time.perf_counter()
                do(pools[turn])
                rates[turn].append(count / (time.perf_counter() - start))
        pool, executor, ours = map(statistics.median, rates)
        said = [f"{statistics.median(one):,.0f} ({min(one):,.0f}–{max(one):,.0f})" for one in rates]
        print(f"| {name} | {' | '.join(said)} | **{ours / executor:.2f}** | {f'≥ {to_reach}' if to_reach else '–'} | "
              f"**{ours / pool:.2f}** | {f'≥ {to_reach_pool}' if to_reach_pool else '–'} |", flush=True)
    for pool in pools:
        pool.close()


if __name__ == "__main__":
    main()
