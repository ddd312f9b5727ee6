"""Objects as a pool's bytes: small ones in the message, large ones in a block, buffers out of band (PEP 574)."""

from __future__ import annotations

import pickle
import struct
from typing import Any, Callable, List, Optional, Tuple

from ._pool_blocks import Part, Reader, Writer

# Up to so many bytes it is cheaper to send them along.
_INLINE = 32 * 1024
_BLOCK = struct.Struct("<QQI")  # offset, size, parts; then a 64-bit length for each part

Dumps = Callable[..., bytes]


def pack(head: bytes, value: Any, writer: Writer, dumps: Dumps = pickle.dumps) -> Tuple[bytes, Optional[int]]:
    """The message of an object behind `head`, and the block that it is in, if it is in one."""
    buffers: List[pickle.PickleBuffer] = []
    pickled = dumps(value, 5, buffer_callback=buffers.append)
    if not buffers and len(pickled) <= _INLINE:
        return head + b"i" + pickled, None
    parts: List[Part] = [pickled]
    parts.extend(buffer.raw() for buffer in buffers)
    offset, size = writer.write(parts)
    lengths = struct.pack(f"<{len(parts)}Q", *map(len, parts))
    return head + b"b" + _BLOCK.pack(offset, size, len(parts)) + lengths, offset


def unpack(message: bytes, start: int, reader: Reader) -> Any:
    """The object of a message, behind `start` bytes of head."""
    if message[start : start + 1] == b"i":
        return pickle.loads(memoryview(message)[start + 1 :])
    offset, size, count = _BLOCK.unpack_from(message, start + 1)
    lengths = list(struct.unpack_from(f"<{count}Q", message, start + 1 + _BLOCK.size))
    views = reader.read(offset, size, lengths)
    return pickle.loads(views[0], buffers=views[1:])
