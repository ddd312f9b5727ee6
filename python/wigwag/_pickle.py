"""How objects come out of a pickle: opened by their address, or by a descriptor that went along with a new process."""

import os
import sys
from typing import Any, Dict


def reopen(kind: Any, address: str, options: Dict[str, Any]) -> Any:
    """Open an object of this class by its address."""
    return kind.open(address, **options)


def descriptor(fd: int) -> Any:
    """What stands for a descriptor in the pickle of an object without a name.

    Only a process that is being started can be handed one along with the pickle: multiprocessing, with spawn or forkserver.
    """
    context = sys.modules.get("multiprocessing.context")
    if context is None or context.get_spawning_popen() is None:
        raise TypeError(
            "it has no name by which another process could open it; make it with one, hand it to the process when that is "
            "started (multiprocessing.Process(args=…)), or pass its descriptor on"
        )
    from multiprocessing.reduction import DupFd

    return DupFd(fd)


def adopt(kind: Any, descriptor: Any, options: Dict[str, Any]) -> Any:
    """Open an object of this class from what `descriptor` gave."""
    return kind.from_fd(descriptor.detach(), **options)


def place(kind: Any, descriptor: Any, offset: int, size: int, options: Dict[str, Any]) -> Any:
    """Open an object of this class that lies in memory of the caller's, whose descriptor `descriptor` gave."""
    fd = descriptor.detach()
    try:
        return kind.place(fd, offset, size, **options)
    finally:
        os.close(fd)
