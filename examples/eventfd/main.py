"""The document's eventfd program: the child signals an event, the parent waits for it."""

import os
import sys

import wigwag

with wigwag.EventFd() as events:
    pid = os.fork()
    if pid == 0:
        events.add(1)
        print("Event written")
    else:
        value = events.take(timeout=10)
        os.waitpid(pid, 0)
        print("Event received:", value)
    sys.stdout.flush()
