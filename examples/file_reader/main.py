"""The document's disk file program, process B: reads the text. An argument is the path, else /tmp/ipc_file."""

import sys

import wigwag

path = sys.argv[1] if len(sys.argv) > 1 else "/tmp/ipc_file"
wigwag.File.until_exists(f"file:{path}", timeout=10)
print(wigwag.File.load(f"file:{path}", limit=100).decode())
