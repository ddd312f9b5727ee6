"""The temperature: the parent writes it again and again, and the child wants the latest and nothing else."""

import os

import wigwag

with wigwag.Cell.anonymous() as cell:
    pid = os.fork()
    if pid == 0:
        cell.wait(2, timeout=10)  # for a third value
        value, sequence = cell.read()
        print(f"Value {sequence}: {value.decode()} degrees", flush=True)
        os._exit(0)
    for degrees in (20, 21, 22):
        cell.write(b"%d" % degrees)
    os.waitpid(pid, 0)
