"""The document's named pipe program, the writer. An argument is the path, else /tmp/myfifo."""

import sys

import wigwag

path = sys.argv[1] if len(sys.argv) > 1 else "/tmp/myfifo"
with wigwag.Fifo.open_writer(f"fifo:{path}", create=True, mode=0o666, timeout=10) as fifo:
    fifo.write_all(b"Hello FIFO", timeout=10)
