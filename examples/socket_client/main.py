"""A client for the document's socket server. Arguments: port (8080), host (this one) and text."""

import sys

import wigwag

port, host, text = [*sys.argv[1:], *["8080", "", "Hello from client"][len(sys.argv) - 1 :]]
with wigwag.Socket.connect(f"tcp://{host}:{port}", timeout=10) as server:
    server.send_all(text.encode(), timeout=10)
    print("Sent:", text)
