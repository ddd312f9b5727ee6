"""Worker processes count primes, each task a range; one task kills its worker, and is the only one that is lost."""

import os
import signal
import sys

from wigwag.pool import ProcessPool, TaskLost

TASKS, EACH = 10, 10_000


def is_prime(n):
    d = 2
    while d * d <= n:
        if n % d == 0:
            return False
        d += 1
    return n > 1


def count_primes(start):
    return sum(map(is_prime, range(start, start + EACH)))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "pipe:"
    with ProcessPool(2, mp_context="fork", address=address) as pool:
        tasks = []
        for i in range(TASKS):
            tasks.append(pool.submit(count_primes, i * EACH))
            if i == TASKS // 2:
                lost = pool.submit(die)
        primes = sum(task.result() for task in tasks)
        death = lost.exception()
        assert isinstance(death, TaskLost)
        print(f"{primes} primes below {TASKS * EACH}; 1 task lost by signal {int(death.signal)}")
