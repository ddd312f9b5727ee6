"""Three workers log into one file, through what the address names; the process that writes is killed, and one of the workers.

``log:./asynchronous_log?file=asynchronous.log`` is through shared memory; with ``&through=mq`` or ``&through=sysv-mq`` it is
through a message queue.
"""

import logging
import os
import signal
import sys
import time

import wigwag
import wigwag.log

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "log:./asynchronous_log?file=asynchronous.log"
WORKERS, EACH, PATIENCE = 3, 1000, 30


def forked(body, *arguments):
    pid = os.fork()
    if pid == 0:
        body(*arguments)
        os._exit(0)
    return pid


def write():
    with wigwag.Log.open(ADDRESS) as log:
        log.serve()


def work(worker):
    handler = wigwag.log.Handler(ADDRESS)  # in a real program by logging.config.dictConfig
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for number in range(EACH):
        if worker == 2 and number == EACH // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        logging.info("worker %d did %d", worker, number)
    handler.close()


with wigwag.Log.open(ADDRESS, writer="never") as log:
    writer = forked(write)
    while log.statistics().writer != writer:
        time.sleep(0.001)
    workers = [forked(work, worker) for worker in range(WORKERS)]
    while log.statistics().written < 100:
        time.sleep(0.001)
    os.kill(writer, signal.SIGKILL)  # one of the workers takes over, at the exact record
    for pid in [writer, *workers]:
        os.waitpid(pid, 0)
    log.drain(PATIENCE)
    name = log.file

done = [0] * WORKERS
with open(name) as file:
    for line in file:
        worker, number = map(int, line.split("worker ")[1].split(" did "))
        assert number == done[worker], "each record once, and in order"
        done[worker] += 1
print("Records of each worker:", *done)
wigwag.Log.remove(ADDRESS)
os.remove(name)
