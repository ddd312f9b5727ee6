"""A work queue: the parent hands out jobs through shared memory, and the child does them."""

import os

import wigwag

with wigwag.Ring.anonymous() as ring:
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            with ring.borrow(timeout=10) as job:  # it would go to another, should this process die inside
                print("Doing", bytes(job).decode(), flush=True)
        os._exit(0)
    for number in range(1, 4):
        ring.send(b"job %d" % number, timeout=10)
    os.waitpid(pid, 0)
    seen = ring.statistics()
    print(f"{seen.sent} sent, {seen.released} done")
