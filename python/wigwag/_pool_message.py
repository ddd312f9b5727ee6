"""Objects as a pool's bytes: small ones in the message, large ones in a block, buffers out of band (PEP 574)."""

from __future__ import annotations

import itertools
import pickle
import struct
import types
from pickle import dumps, loads
from typing import Any, List, Optional, Tuple, Union

from ._pool_blocks import Part, Place, Reader, Writer

_BLOCK = struct.Struct("<QQI")  # offset, size, parts; then a 64-bit length for each part
# What an object's message begins with: it is small and follows, is in a block (with the lengths of its parts, where these are
# too many for the message), or in the block that its task was given.
SMALL, _BLOCKED, _TABLED, _RETURNED = b"i", b"b", b"t", b"r"
# Before a call: how many bytes its function's pickled name has that follows; 0 if the function is pickled with the rest.
_NAME = struct.Struct("<I")
_NO_NAME = _NAME.pack(0)


def pack(head: bytes, value: Any, writer: Writer, keep: bool = False) -> Tuple[bytes, Optional[int]]:
    """The message of an object behind `head`, and the block that it is in, if it is in one; `keep` as for the writer."""
    buffers: List[pickle.PickleBuffer] = []
    pickled = dumps(value, 5, buffer_callback=buffers.append)
    if not buffers and len(pickled) + len(head) < writer.inline:
        return head + SMALL + pickled, None
    return _in_block(head, [pickled, *(buffer.raw() for buffer in buffers)], writer, keep)


def _in_block(head: bytes, parts: List[Part], writer: Writer, keep: bool = False) -> Tuple[bytes, int]:
    count = len(parts)
    lengths = struct.pack(f"<{count}Q", *map(len, parts))
    if len(head) + 1 + _BLOCK.size + len(lengths) <= writer.inline:
        offset, size = writer.write(parts, keep)
        return head + _BLOCKED + _BLOCK.pack(offset, size, count) + lengths, offset
    offset, size = writer.write([lengths, *parts], keep)
    return head + _TABLED + _BLOCK.pack(offset, size, count), offset


class Returned:
    """A result whose buffers are parts of what the task was given: they go back where they are, unless somebody keeps them."""

    def __init__(self, head: bytes, pickled: bytes, block: Tuple[int, int], places: List[Place]) -> None:
        self._head, self._pickled, self._block, self._places = head, pickled, block, places

    def message(self, reader: Reader, writer: Writer) -> bytes:
        """The result's message, when the task's arguments and its result have gone here."""
        offset, size = self._block
        if reader.is_in_use(offset):  # the function has put them aside, and they are no longer the caller's alone
            return _in_block(self._head, [self._pickled, *reader.read_at(offset, size, self._places)], writer)[0]
        places = struct.pack(f"<{2 * len(self._places)}Q", *itertools.chain.from_iterable(self._places))
        return self._head + _RETURNED + _BLOCK.pack(offset, size, len(self._places)) + places + self._pickled


def pack_result(head: bytes, value: Any, reader: Reader, writer: Writer) -> Union[bytes, Returned]:
    """The message of a task's result behind `head`, or what makes it when the task's arguments and the result have gone."""
    buffers: List[pickle.PickleBuffer] = []
    pickled = dumps(value, 5, buffer_callback=buffers.append)
    if not buffers and len(pickled) + len(head) < writer.inline:
        return head + SMALL + pickled
    views = [buffer.raw() for buffer in buffers]
    block = reader.last
    if views and block:
        places = reader.places(block[0], views)
        if places is not None and len(head) + 1 + _BLOCK.size + 16 * len(places) + len(pickled) <= writer.inline:
            return Returned(head, pickled, block, places)
    return _in_block(head, [pickled, *views], writer)[0]


def unpack(message: bytes, start: int, reader: Reader, own: Optional[Reader] = None) -> Any:
    """The object of a message, behind `start` bytes of head; with `own`, it may be in a block that this side has written."""
    kind = message[start : start + 1]
    if kind == SMALL:
        return loads(message[start + 1 :])  # small: a copy costs less than a view
    offset, size, count = _BLOCK.unpack_from(message, start + 1)
    start += 1 + _BLOCK.size
    if kind == _RETURNED and own is not None:
        numbers = struct.unpack_from(f"<{2 * count}Q", message, start)
        views = own.read_at(offset, size, list(zip(numbers[::2], numbers[1::2])))
        return loads(message[start + 16 * count :], buffers=views)
    if kind == _TABLED:
        (table,) = reader.read(offset, size, [8 * count])
        views = reader.read(offset, size, [8 * count, *struct.unpack(f"<{count}Q", table)])[1:]
    else:
        views = reader.read(offset, size, list(struct.unpack_from(f"<{count}Q", message, start)))
    return loads(views[0], buffers=views[1:])


class Calls:
    """Calls as messages. A function of a module is pickled once, and its name looked up once in each worker, as long as the
    calls of the same one follow each other."""

    def __init__(self) -> None:
        self._sent: Tuple[Any, bytes] = (self, b"")  # no function yet
        self._received: Tuple[Optional[bytes], Any] = (None, None)  # the head of a small call, and its function

    def pack(self, fn: Any, args: Tuple[Any, ...], kwargs: Any, writer: Writer) -> Tuple[bytes, Optional[int]]:
        """The message of a call, and the block that it is in, if it is in one."""
        known, head = self._sent
        if known is not fn:
            if type(fn) is not types.FunctionType:  # what it is pickled as may be another thing at the next call
                return pack(_NO_NAME, (fn, args, kwargs), writer, keep=True)
            name = dumps(fn, 5)
            head = _NAME.pack(len(name)) + name
            if len(head) + 1 + _BLOCK.size > writer.inline:  # even if all the rest is in a block
                return pack(_NO_NAME, (fn, args, kwargs), writer, keep=True)
            self._sent = fn, head
        return pack(head, (args, kwargs), writer, keep=True)

    def unpack(self, message: bytes, reader: Reader) -> Tuple[Any, Tuple[Any, ...], Any]:
        """Function, arguments, and arguments by name."""
        head, fn = self._received
        if head is not None and message.startswith(head):
            args, kwargs = loads(message[len(head) :])
            return fn, args, kwargs
        (length,) = _NAME.unpack_from(message)
        if length == 0:
            return unpack(message, _NAME.size, reader)  # type: ignore[no-any-return]
        start = _NAME.size + length
        if head is None or len(head) != start + 1 or not message.startswith(head[:-1]):
            fn = loads(message[_NAME.size : start])
            self._received = message[:start] + SMALL, fn
        args, kwargs = unpack(message, start, reader)
        return fn, args, kwargs
