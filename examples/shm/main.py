"""The document's System V shared memory program: writes into a segment and prints what is in it."""

import pathlib

import wigwag

pathlib.Path("shmfile").touch()  # the key is derived from this file: without it there is none
text = b"Hello Shared Memory"
with wigwag.SysvShm.open_or_create("sysv-shm:shmfile#65", size=1024) as shm:
    shm.buf[: len(text)] = text
    print("Data written in memory:", bytes(shm.buf[: len(text)]).decode())
    shm.unlink()
