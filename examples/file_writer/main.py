"""The document's disk file program, process A: leaves a text in a file. An argument is the path, else /tmp/ipc_file."""

import sys

import wigwag

path = sys.argv[1] if len(sys.argv) > 1 else "/tmp/ipc_file"
wigwag.File.replace(f"file:{path}", b"Hello from process A", mode=0o644)
