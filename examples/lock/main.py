"""A lock whose holder is killed: the next one has it, is told, and makes good."""

import os
import signal

import wigwag

with wigwag.Memfd.create(8) as memory:
    mutex = wigwag.Mutex.anonymous()
    pid = os.fork()
    if pid == 0:
        mutex.acquire()
        memory.buf[:4] = b"half"
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with mutex:
        if mutex.inherited:
            print("Inherited from the dead:", bytes(memory.buf[:4]).decode())
            memory.buf[:] = b"complete"
            mutex.consistent()
    with mutex:
        print("Inherited:" if mutex.inherited else "Consistent:", bytes(memory.buf).decode())
    mutex.close()
