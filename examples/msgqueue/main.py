"""The document's message queue program: a message goes through the queue of ``ftok("progfile", 65)``, from a child to its
parent. The file may be named as an argument."""

import os
import pathlib
import sys

import wigwag

path = sys.argv[1] if len(sys.argv) > 1 else "progfile"
pathlib.Path(path).touch()  # the key is derived from it
with wigwag.SysvMq.open_or_create(f"sysv-mq:{path}#65") as queue:
    pid = os.fork()
    if pid == 0:
        queue.send(b"Hello Message Queue", type=1, timeout=10)
    else:
        print("Received:", queue.recv(type=1, timeout=10).data.decode())
        os.waitpid(pid, 0)
        queue.unlink()
    sys.stdout.flush()
