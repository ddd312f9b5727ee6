"""The document's signal program: prints each SIGINT and goes on waiting, until SIGTERM."""

import signal

import wigwag

stopped = False


def stop(info):
    global stopped
    stopped = True


with wigwag.Signals([signal.SIGINT, signal.SIGTERM]) as signals:
    signals.on(signal.SIGINT, lambda info: print("Received signal", int(info.signal), flush=True))
    signals.on(signal.SIGTERM, stop)
    print("Waiting for signal...", flush=True)
    while not stopped:
        signals.dispatch()
