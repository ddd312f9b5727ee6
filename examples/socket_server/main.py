"""The document's socket server: receives from one client. Arguments: port (8080) and interface (all)."""

import sys

import wigwag

port, interface = [*sys.argv[1:], *["8080", ""][len(sys.argv) - 1 :]]
with wigwag.Listener(f"tcp://{interface}:{port}", backlog=5, timeout=10) as listener:
    print("Listening at", listener.local_address, file=sys.stderr, flush=True)
    with listener.accept() as client:
        print("Received:", client.recv(1024, timeout=10).decode())
