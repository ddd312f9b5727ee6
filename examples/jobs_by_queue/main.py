"""Producers and consumers over a queue, whichever the address names: ``sysv-mq:.#65``, ``mq:/jobs?depth=8&size=64``,
``ring:jobs?capacity=4096&largest=64``.

The queue bounds how far producers are ahead. When they have ended, each consumer is told to stop. One job kills the
consumer that takes it, with SIGKILL: that job is lost and counted, and nothing else."""

import os
import signal
import sys

from wigwag import Channel, WaitSet

PRODUCERS, CONSUMERS, EACH = 3, 3, 100
PATIENCE = 30


def start(work, *arguments):
    """Runs it in a child, and gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def produce(producer):
    with Channel.open_sender(address, PATIENCE) as jobs:
        for number in range(EACH):
            jobs.send(b"fatal" if (producer, number) == (1, 50) else b"job %d of %d" % (number, producer), PATIENCE)


def consume(done):
    with Channel.open_receiver(address, PATIENCE) as jobs:
        while True:
            job = jobs.recv(PATIENCE)
            if job == b"stop":
                return
            if job == b"fatal":
                os.kill(os.getpid(), signal.SIGKILL)
            done.send(job, PATIENCE)


address = sys.argv[1]
with Channel.open_sender(address, PATIENCE) as jobs, WaitSet() as waitset:
    results, done = Channel.pair("pipe:")
    consumers = {start(consume, done) for _ in range(CONSUMERS)}
    done.close()
    producers = {start(produce, producer) for producer in range(PRODUCERS)}
    waitset.add(results, 0)
    for pid in consumers | producers:
        waitset.add_child(pid, pid)
    sent, killed, seen = 0, 0, []
    while len(waitset):
        for event in waitset.wait(timeout=PATIENCE):
            if event.token == 0:
                try:
                    while True:
                        seen.append(results.recv(timeout=0))
                except BlockingIOError:
                    pass
                except BrokenPipeError:  # every consumer has ended
                    waitset.remove(0)
                continue
            waitset.remove(event.token)
            status = os.waitpid(event.token, 0)[1]
            killed += os.WIFSIGNALED(status)
            if event.token in producers:
                sent += EACH if status == 0 else 0
                producers.remove(event.token)
                if not producers:
                    jobs.send_batch([b"stop"] * CONSUMERS, PATIENCE)
    results.close()
Channel.remove(address)
twice = len(seen) - len(set(seen))
print(f"{sent} sent, {len(seen)} done, {twice} of them twice, {sent - len(seen)} lost with {killed} consumer killed")
