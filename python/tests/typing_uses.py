"""What mypy must accept, and with an ignore must refuse: read by test_typing.py, never run."""

import subprocess
from typing import List, Optional, Tuple

import wigwag
from wigwag import stdlib


def addresses() -> Tuple[str, bytes, Optional[int]]:
    address = wigwag.Address("sysv-mq:progfile#65")
    address.scheme = "mq"  # type: ignore[misc]
    return address.scheme, address.name, address.id


def bytes_through_a_pipe() -> bytes:
    reader, writer = wigwag.Pipe.open()
    with reader, writer:
        writer.write_all(memoryview(b"Hello"), timeout=1)
        writer.write_all("Hello")  # type: ignore[arg-type]
        room = bytearray(5)
        length: int = reader.read_into(room, timeout=0.5)
        return bytes(room[:length]) + reader.read(timeout="1")  # type: ignore[arg-type]


def sockets(address: wigwag.Address) -> str:
    with wigwag.Listener("tcp://localhost:0", backlog=5) as listener, wigwag.Socket.connect(address, 1.0) as client:
        with listener.accept(timeout=1) as peer:
            pid, uid, gid = peer.peer_credentials
            data, fds = client.recv_fds()
            peer.send_fds(data, [client, *fds], timeout=pid)
            peer.shutdown("sending")
            peer.shutdown("write")  # type: ignore[arg-type]
        return client.local_address


def files(path: str) -> memoryview:
    wigwag.File.replace("file:" + path, b"content", durability="content")
    with wigwag.File.open(wigwag.Address("file:" + path), access="read") as file, file.lock(exclusive=False):
        wigwag.File.open("file:" + path, access="rw")  # type: ignore[arg-type]
        with file.map(readonly=True) as mapping:
            return memoryview(mapping)


def queues() -> Tuple[bytes, int, int]:
    with wigwag.SysvMq.create("sysv-mq:private") as sysv, wigwag.Mq.create("mq:/jobs", depth=5) as queue:
        sysv.send(b"x", type=3)
        message = sysv.recv(up_to=5)
        queue.send(message.data, priority=message.type)
        queue.send(message)  # type: ignore[arg-type]
        return queue.recv(timeout=0).data, sysv.status().messages, wigwag.Mq.limits().queues_max


def semaphores() -> bool:
    with wigwag.SysvSem.create("sysv-sem:private", [1, 0]) as locked:
        flag: bool = locked
    sems = wigwag.SysvSem.open("sysv-sem:semfile#65")
    sems.operate([(0, -1, True), (1, 1)], timeout=1)
    with sems.held(number=1):
        pass
    return flag and wigwag.Sem.open("sem:/gate").acquire(blocking=False)


def memory() -> int:
    with wigwag.Shm.create("shm:/frames", 4096, populate=True) as shm, wigwag.Memfd.create(4096) as memfd:
        view: memoryview = shm.buf
        memfd.seal(wigwag.Memfd.SEAL_GROW | wigwag.Memfd.SEAL_SHRINK)
        return len(view) + shm.status().attached


def signals() -> List[int]:
    with wigwag.Signals(["USR1", 12]) as waiting, wigwag.Shutdown(cancel=wigwag.Cancel()) as shutdown:
        waiting.on("USR1", lambda info: print(info.pid, info.value))
        requested: Optional[wigwag.Signal] = shutdown.requested
        info = waiting.take(timeout=1)
        return [int(info.signal), 0 if requested is None else requested.number]


def wait_set(child: "subprocess.Popen[bytes]") -> None:
    with wigwag.WaitSet() as waitset, wigwag.EventFd() as events:
        waitset.add(events, token=1, interest=wigwag.WaitSet.READABLE)
        waitset.add(0, token=2)
        waitset.add_child(child, token=3)
        waitset.add("stdin", token=4)  # type: ignore[arg-type]
        for event in waitset.wait(timeout=1):
            print(event.token, event.readable, event.returncode)


def in_place(ring: wigwag.Ring, cell: wigwag.Cell) -> int:
    with ring.reserve(8) as room:
        room.buf[:] = b"12345678"
    with ring.borrow(timeout=1) as message:
        memoryview(message).tobytes()
    length, _ = ring.recv_into(bytearray(8))
    return length + message.deliveries + cell.reserve(3).publish()


def shapes() -> int:
    jobs: "stdlib.JoinableQueue[int]" = stdlib.JoinableQueue(4, name="jobs")
    with stdlib.Lock(), stdlib.Condition() as held:
        _: bool = held
        jobs.put(1, timeout=1)
        jobs.put("text")  # type: ignore[arg-type]
    return jobs.get() + 1


def topics(topic: wigwag.Topic) -> int:
    with topic.subscribe(lossy=True, history=3) as subscription:
        received = subscription.recv(timeout=1)
        with topic.reserve(8) as room:
            room.buf[:] = received.data[:8]
    return topic.publish(b"x") + received.sequence + received.missed


async def channels(address: wigwag.Address) -> int:
    with await wigwag.Channel.open_receiver_async(address, 1) as receiver:
        message = await receiver.recv_message_async(timeout=1)
        receiver.reply(message, message.data + await receiver.recv_async())
        if message.peer is not None and message.peer.credentials is not None:
            receiver.reply(message.peer, bytearray(message.peer.credentials[0]))
        receiver.reply("nobody", b"x")  # type: ignore[arg-type]
        largest = wigwag.Channel.capabilities("ring:jobs").largest or 0
        return largest + (receiver.statistics().waiting or 0) + receiver.recv_into(bytearray(8))


async def questions(caller: wigwag.Caller, server: wigwag.Server) -> int:
    served: bool = server.serve_one(bytes.upper, timeout=1)
    server.serve(lambda question: bytearray(question))
    server.serve(lambda question: str(question))  # type: ignore[arg-type, return-value]
    try:
        answer = caller.call(b"?") + await caller.call_async(memoryview(b"!"), 1)
    except wigwag.Refused as refused:
        raise wigwag.Refused(refused.strerror)
    return len(answer) + caller.late + server.dropped + server.foreign + served


async def awaited(socket: wigwag.Socket, listener: wigwag.Listener, file: wigwag.File) -> bytes:
    connection: wigwag.Socket = await listener.accept_async(timeout=1)
    with connection, await file.lock_async():
        await connection.send_all_async(b"x")
    await wigwag.File.until_exists_async("file:/tmp/x", timeout=1)
    fifo: wigwag.Fifo = await wigwag.Fifo.open_reader_async("fifo:/tmp/f", keep_open=True)
    socket.recv_async() + b""  # type: ignore[operator]
    return await socket.recv_async() + await fifo.read_async()
