"""The document's anonymous pipe program: the child writes to its parent."""

import os

import wigwag

reader, writer = wigwag.Pipe.open()
pid = os.fork()
if pid == 0:
    writer.write_all(b"Hello from child", timeout=10)
else:
    writer.close()
    print("Parent received:", reader.read(100, timeout=10).decode())
    os.waitpid(pid, 0)
