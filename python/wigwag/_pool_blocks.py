"""Memory for what is too large for a pool's channel: blocks of a file in memory that both sides map.

One side writes blocks, the other reads them in place and marks each as free once nobody looks at it any more; its writer
then uses it again, while its pages are warm. Nothing has a name, so nothing is left behind.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import Dict, List, Optional, Set, Tuple, Union

from . import _wigwag

_SMALLEST = 1 << 16
# Up to so many bytes it is cheaper to send them along than to put them into a block.
_INLINE = 32 * 1024
# Bytes; the first is 1 while the reader uses the block, the second while the writer keeps it for another reader, and the four
# behind the fourth are the number of who has read it last, 0 for nobody.
_HEADER = 64
_NUMBER = struct.Struct("=I")
_NUMBER_AT = 4

#: The number of the process that has the pool; its workers count from 1.
OWN = 0xFFFF_FFFF

Part = Union[bytes, memoryview]
Place = Tuple[int, int]  # start and length in a block


def make_file() -> int:
    """A file for blocks; its descriptor, closed on exec."""
    return os.memfd_create("wigwag-pool", os.MFD_CLOEXEC)


class _Claim:
    """The part of the file for a block: behind those that were claimed before."""

    __slots__ = ("size", "start")

    def __init__(self, size: int) -> None:
        self.size = size
        self.start: Optional[int] = None

    def place(self, claims: List["_Claim"]) -> int:
        at = len(claims) - 1
        while claims[at] is not self:
            at -= 1
        start = 0
        while at > 0:
            at -= 1
            start += claims[at].size
            known = claims[at].start
            if known is not None:  # of all but those that are interrupted just here
                start += known
                break
        self.start = start
        return start


class Writer:
    """The side that writes: blocks by their offset in the file. What has more than ``inline`` bytes belongs into one."""

    def __init__(self, fd: int, largest: int) -> None:
        """``largest``: as many bytes as the channel carries."""
        self.fd = fd
        self.inline = min(_INLINE, largest)
        self._claims: List[_Claim] = []
        self._free: Dict[int, List[Tuple[int, mmap.mmap]]] = {}
        self._used: Dict[int, mmap.mmap] = {}
        self._gone: Set[int] = set()
        #: Blocks made since it was looked for those that are free again, and their bytes.
        self._unlooked = self._unlooked_bytes = 0
        self._used_bytes = 0
        self._lock = threading.RLock()
        #: Whether somebody has the lock who is in the middle of it.
        self._is_at_work = False

    def write(self, parts: List[Part], keep: bool = False) -> Tuple[int, int]:
        """Put the parts into a block one behind the other, each at a multiple of 64 bytes; its offset and size. With ``keep`` it
        stays as it is until ``let_go``, however often it is read.

        Raises MemoryError: the system has no memory for it.
        """
        total = _HEADER + sum(_padded(len(part)) for part in parts)
        size = max(_SMALLEST, 1 << (total - 1).bit_length())
        with self._lock:
            if self._is_at_work:  # this is a signal handler that has interrupted it: the free ones are not in order now
                offset, block = self._make(size)
            else:
                self._is_at_work = True
                try:
                    offset, block = self._find(size) or self._make(size)
                finally:
                    self._is_at_work = False
            _NUMBER.pack_into(block, _NUMBER_AT, 0)
            block[0], block[1] = 1, keep
            self._used[offset] = block
            self._used_bytes += size
        try:
            at = _HEADER
            for part in parts:
                block[at : at + len(part)] = part
                at += _padded(len(part))
        except BaseException:  # such as Ctrl-C: nobody is told of the block
            self.let_go(offset, unread=True)
            raise
        return offset, size

    def _find(self, size: int) -> Optional[Tuple[int, mmap.mmap]]:
        """A free block of this size, if there is one."""
        free = self._free.get(size)
        if not free:
            # It looks at all that are used, so if these are many small ones only once in a while.
            self._unlooked += 1
            self._unlooked_bytes += size
            is_much = self._unlooked > len(self._used) // 16 or self._unlooked_bytes > self._used_bytes // 16
            if is_much or size > _available():
                self._reclaim()
                free = self._free.get(size)
        return free.pop() if free else None

    def _reclaim(self) -> None:
        self._unlooked = self._unlooked_bytes = 0
        gone, still_used = set(self._gone), set()
        for offset, block in list(self._used.items()):
            (number,) = _NUMBER.unpack_from(block, _NUMBER_AT)
            if block[1] == 0 and (block[0] == 0 or number in gone):
                del self._used[offset]
                self._used_bytes -= len(block)
                self._free.setdefault(len(block), []).append((offset, block))
            else:
                still_used.add(number)
        self._gone -= gone - still_used

    def _make(self, size: int) -> Tuple[int, mmap.mmap]:
        if size > _available():
            raise MemoryError(f"{size} bytes for a task's data are more than the system has available")
        claim = _Claim(size)
        self._claims.append(claim)  # one step, after which it is behind those that somebody is in the middle of
        offset = claim.place(self._claims)
        try:
            os.posix_fallocate(self.fd, offset, size)
            return offset, mmap.mmap(self.fd, size, offset=offset)
        except BaseException:
            claim.size = 0
            raise

    def let_go(self, offset: int, unread: bool) -> None:
        """Keep a block no longer; ``unread``: nobody is going to read it, or look at what he has read."""
        # Without the lock: a signal handler may have interrupted the thread that has it, and wait for this.
        block = self._used.get(offset)
        if block is not None:
            if unread or _NUMBER.unpack_from(block, _NUMBER_AT)[0] == 0:
                block[0] = 0
            block[1] = 0

    def forget(self, number: int) -> None:
        """The reader of this number has gone: what it has not given back is free."""
        self._gone.add(number)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


class Reader:
    """The side that reads blocks in place."""

    def __init__(self, fd: int, number: int) -> None:
        """``number``: this reader's, by which its blocks are told from those of others."""
        self.fd = fd
        self._file = _wigwag.BlockFile(fd, number)
        #: Offset and size of the block that was read last; whoever wants to know whether it was this time sets it to None before.
        self.last: Optional[Tuple[int, int]] = None

    def read(self, offset: int, size: int, lengths: List[int]) -> List[memoryview]:
        """Views of the parts of a block; what is made of them keeps the block until it is gone."""
        places, at = [], _HEADER
        for length in lengths:
            places.append((at, length))
            at += _padded(length)
        self.last = offset, size
        return self.read_at(offset, size, places)

    def read_at(self, offset: int, size: int, places: List[Place]) -> List[memoryview]:
        """As ``read``, for parts that are anywhere in the block."""
        whole = memoryview(self._file.block(offset, size))
        return [whole[start : start + length] for start, length in places]

    def places(self, offset: int, parts: List[memoryview]) -> Optional[List[Place]]:
        """Where in the block the parts are, if they are in it and are a good deal of it, none over another."""
        return self._file.places(offset, parts)

    def is_in_use(self, offset: int) -> bool:
        """Whether anybody in this process has something that is made of the block."""
        return self._file.is_in_use(offset)

    def close(self) -> None:
        """Let go of the file; what was made of views lives on."""
        os.close(self.fd)


def _padded(length: int) -> int:
    return (length + 63) & ~63


def _available() -> int:
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62
