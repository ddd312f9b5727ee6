"""The document's semaphore program: a System V semaphore as a lock round a critical section.

main.py [SECONDS [remove]]: how long to work inside, 2 by default; "remove" removes the set at the end.
"""

import sys
import time

import wigwag

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
open("semfile", "a").close()  # the key comes from it
lock = wigwag.SysvSem.open_or_create("sysv-sem:semfile#65", initial=1, mode=0o666)

with lock.held(timeout=60):
    print("In critical section", flush=True)
    time.sleep(seconds)

if sys.argv[2:] == ["remove"]:
    lock.unlink()
