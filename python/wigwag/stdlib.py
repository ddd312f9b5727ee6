"""Queues and locks with the shapes of the standard library's, for threads of any processes.

The names, the methods, what they take, give and raise are those of ``queue`` and ``threading``. They live in shared memory, know who
holds what, and go on when a process is killed at any instruction.

Each takes a ``name`` by which any process of this user can open it, and which ``unlink()`` removes. Without one it goes to
children: fork inherits it, and ``multiprocessing`` hands it to processes started by spawn or forkserver. One with a name
pickles anywhere; one without is refused (TypeError) except along with a process that is being started.
"""

from ._locks import Barrier, BoundedSemaphore, BrokenBarrierError, Condition, Event, Lock, RLock, Semaphore
from ._queues import Empty, Full, JoinableQueue, Queue, SimpleQueue

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Empty",
    "Event",
    "Full",
    "JoinableQueue",
    "Lock",
    "Queue",
    "RLock",
    "Semaphore",
    "SimpleQueue",
]
