"""The document's named pipe program, the reader. An argument is the path, else /tmp/myfifo."""

import sys

import wigwag

path = sys.argv[1] if len(sys.argv) > 1 else "/tmp/myfifo"
with wigwag.Fifo.open_reader(f"fifo:{path}", create=True, mode=0o666, timeout=10) as fifo:
    print(fifo.read(100, timeout=10).decode())
