"""Sockets and listeners."""

import asyncio
import errno
import os
import signal
import socket
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag


@pytest.fixture
def pair():
    one, other = wigwag.Socket.pair()
    with one, other:
        yield one, other


@pytest.fixture
def listener():
    with wigwag.Listener("tcp://127.0.0.1:0", timeout=0) as listener:
        yield listener


def port_of(thing):
    return int(thing.local_address.rpartition(":")[2])


def test_stream_between_processes(tmp_path):
    address = f"unix:{tmp_path}/s"
    with wigwag.Listener(address, backlog=5) as listener:
        pid = os.fork()
        if pid == 0:
            client = wigwag.Socket.connect(address, timeout=GENEROUS)
            client.send_all(b"Hello" * 100_000, timeout=GENEROUS)
            client.shutdown("sending")
            os._exit(0 if client.recv(timeout=GENEROUS) == b"ok" else 1)
        with listener.accept(timeout=GENEROUS) as server:
            assert server.peer_credentials == (pid, os.geteuid(), os.getegid())
            assert server.recv_exact(500_000, timeout=GENEROUS) == b"Hello" * 100_000
            assert server.recv(timeout=GENEROUS) == b""
            server.send_all(b"ok")
        assert os.waitpid(pid, 0)[1] == 0
        assert (tmp_path / "s").is_socket()
    assert not (tmp_path / "s").exists()


def test_killed_peer(pair):
    one, other = pair
    pid = os.fork()
    if pid == 0:
        other.send_all(b"x")
        signal.pause()
    other.close()
    assert one.recv(timeout=GENEROUS) == b"x"
    with pytest.raises(TimeoutError):
        one.recv(timeout=SHORT)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert one.recv(timeout=GENEROUS) == b""
    with pytest.raises(BrokenPipeError, match="the peer has closed") as caught:
        one.send(b"x")
    assert caught.value.filename == "unix:"


def test_tcp(listener):
    with wigwag.Socket.connect(listener.local_address, timeout=GENEROUS, nodelay=True) as client:
        with listener.accept(timeout=GENEROUS) as server:
            assert client.peer_address == server.local_address == listener.local_address
            assert client.local_address == server.peer_address == server.address
            assert client.nodelay and not server.nodelay
            server.set_nodelay(True)
            assert server.nodelay
            assert server.keep_alive is None
            server.set_keep_alive(idle=7, probes=3)
            assert server.keep_alive[0] == 7 and server.keep_alive[2] == 3
            server.set_keep_alive(False)
            assert server.keep_alive is None
            with pytest.raises(ValueError):
                server.set_keep_alive(idle=-1)
            server.set_send_buffer(20_000)
            server.set_receive_buffer(21_000)
            assert (server.send_buffer, server.receive_buffer) == (20_000, 21_000)
            with pytest.raises(OSError, match="net.core.wmem_max=") as caught:
                server.set_send_buffer(1 << 40)
            assert caught.value.errno == errno.ENOBUFS
            with pytest.raises(OSError, match="only Unix sockets") as caught:
                server.peer_credentials
            assert caught.value.errno == errno.ENOTSUP
            assert repr(server) == f"<wigwag.Socket {server.address} fd={server.fileno()}>"


def test_partial_progress(pair):
    one, other = pair
    with pytest.raises(TimeoutError) as caught:
        one.send_all(bytes(10_000_000), timeout=SHORT)
    sent = caught.value.done
    assert 0 < sent < 10_000_000
    with pytest.raises(BlockingIOError):
        one.send_all(bytes(10_000_000), timeout=0)
    with pytest.raises(TimeoutError) as caught:
        other.recv_exact(sent + 1, timeout=SHORT)
    assert len(caught.value.partial) == sent


def test_messages_are_never_cut(tmp_path):
    with wigwag.Socket.bind(f"unix-dgram:{tmp_path}/d") as server:
        with wigwag.Socket.connect(f"unix-dgram:{tmp_path}/d") as client:
            client.send(b"a message")
            with pytest.raises(OSError, match="it is still there") as caught:
                server.recv(3)
            assert (caught.value.errno, caught.value.true_size) == (errno.EMSGSIZE, 9)
            data, sender = server.recv_from()
            assert data == b"a message"
            server.send_to(b"an answer", sender, timeout=GENEROUS)
            buffer = bytearray(20)
            assert client.recv_into(buffer) == 9
            assert buffer[:9] == b"an answer"
            with pytest.raises(OSError) as caught:
                client.recv_exact(1)
            assert caught.value.errno == errno.ENOTSUP


def test_udp():
    with wigwag.Socket.bind("udp://127.0.0.1:0") as server, wigwag.Socket.bind("udp://127.0.0.1:0") as client:
        client.send_to(b"ping", f"udp://localhost:{port_of(server)}", timeout=GENEROUS)
        data, sender = server.recv_from(timeout=GENEROUS)
        assert (data, sender) == (b"ping", client.local_address)
        server.send_to(b"pong", wigwag.Address(sender))
        assert client.recv(timeout=GENEROUS) == b"pong"
        with pytest.raises(OSError, match="at most 65507") as caught:
            client.send_to(bytes(70_000), sender)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(OSError, match="of another kind"):
            client.send_to(b"x", "unix-dgram:/x")


def test_descriptors():
    one, other = wigwag.Socket.pair("unix-seqpacket")
    with one, other, wigwag.EventFd() as events:
        one.send_fds(b"take", [events, events.fileno()])
        data, fds = other.recv_fds()
        assert data == b"take" and len(fds) == 2
        for fd in fds:
            with wigwag.EventFd.from_fd(fd) as same:
                same.add(2)
        assert events.take(timeout=0) == 4
        one.send_fds(b"take", [events, events])
        with pytest.raises(OSError, match="2 descriptors came, 1 were asked for") as caught:
            other.recv_fds(most=1)
        assert caught.value.errno == errno.EBADMSG
        with pytest.raises(OSError, match="at least one byte"):
            one.send_fds(b"", [events])


def test_errors_say_what_to_do(tmp_path, listener):
    address = listener.local_address
    listener.close()
    with pytest.raises(ConnectionRefusedError, match="start the server first") as caught:
        wigwag.Socket.connect(address, timeout=GENEROUS)
    assert caught.value.filename == address
    with pytest.raises(FileNotFoundError):
        wigwag.Socket.connect(f"unix:{tmp_path}/none")
    with pytest.raises(OSError, match="is a directory") as caught:
        wigwag.Listener(f"unix:{tmp_path}")
    assert caught.value.errno == errno.ENOTSOCK
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="left alone"):
        wigwag.Listener(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OSError) as caught:
        wigwag.Socket.connect("pipe:")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError):
        wigwag.Socket.pair("tcp-ish")
    with pytest.raises(TypeError):
        wigwag.Socket.connect(8080)
    with pytest.raises(ValueError, match="timeout"):
        wigwag.Socket.connect("tcp://127.0.0.1:1", timeout=-1)
    with pytest.raises(BlockingIOError, match="numeric address"):
        wigwag.Socket.connect("tcp://localhost:1", timeout=0)
    with open("/dev/null") as null, pytest.raises(OSError, match="not a socket"):
        wigwag.Socket.from_fd(null.fileno())


def test_paths_are_taken_over_from_the_dead_alone(tmp_path):
    address = f"unix:{tmp_path}/s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(f"{tmp_path}/s")
    dead.close()
    with wigwag.Listener(address, mode=0o660):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError, match="somebody listens") as caught:
            wigwag.Listener(address)
        assert caught.value.errno == errno.EADDRINUSE


def test_abstract_names(fresh):
    name = fresh("abstract")
    with wigwag.Listener(f"unix:@{name}") as listener:
        wigwag.Socket.connect(f"unix:@{name}").close()
        listener.accept(timeout=GENEROUS).close()
        assert listener.refused == 0
    with wigwag.Socket.bind(f"unix-dgram:@{name}") as receiver:
        wigwag.Socket.connect(f"unix-dgram:@{name}").close()  # the same user's
        with wigwag.Socket.connect(f"unix-dgram:@{name}", any_user=True) as sender:
            sender.send(b"x")
        assert receiver.recv() == b"x"
        assert receiver.refused == 0


def test_closing_ends_waits(pair, listener):
    one, _ = pair
    failures = []

    def wait(call):
        with pytest.raises(OSError) as caught:
            call()
        failures.append(caught.value.errno)

    threads = [threading.Thread(target=wait, args=(call,)) for call in (one.recv, listener.accept)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    one.close()
    listener.close()
    for thread in threads:
        thread.join(GENEROUS)
    assert failures == [errno.ECANCELED] * 2
    assert one.closed and listener.closed
    with pytest.raises(ValueError, match="closed Socket"):
        one.send(b"x")
    with pytest.raises(ValueError, match="closed Listener"):
        listener.accept()
    one.close()


def test_cancel(listener):
    cancel = wigwag.Cancel()
    threading.Timer(0.01, cancel.fire).start()
    with cancel, pytest.raises(OSError) as caught:
        listener.accept()
    assert caught.value.errno == errno.ECANCELED


def test_standard_library_on_the_other_side(tmp_path, listener):
    with socket.create_connection(("127.0.0.1", port_of(listener)), GENEROUS) as client:
        with listener.accept(timeout=GENEROUS) as server:
            server.send_all(b"Hello")
            assert client.recv(5) == b"Hello"
            client.sendall(b"back")
            assert server.recv_exact(4, timeout=GENEROUS) == b"back"
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        with wigwag.Socket.connect(f"tcp://127.0.0.1:{theirs.getsockname()[1]}", timeout=GENEROUS) as client:
            accepted, _ = theirs.accept()
            with accepted:
                accepted.sendall(b"x")
                assert client.recv(timeout=GENEROUS) == b"x"
        with wigwag.Listener.from_fd(theirs.detach()) as adopted:
            with pytest.raises(BlockingIOError):
                adopted.accept(timeout=0)
    theirs, ours = socket.socketpair()
    with theirs, wigwag.Socket.from_fd(ours.detach()) as adopted, wigwag.EventFd() as events:
        with pytest.raises(TimeoutError):
            adopted.recv(timeout=SHORT)
        if hasattr(socket, "send_fds"):
            socket.send_fds(theirs, [b"x"], [events.fileno()])
            data, fds = adopted.recv_fds(timeout=GENEROUS)
            assert data == b"x"
            os.close(fds[0])
            adopted.send_fds(b"y", [events])
            data, fds, _, _ = socket.recv_fds(theirs, 10, 10)
            assert data == b"y"
            os.close(fds[0])
    with wigwag.Socket.bind(f"unix-dgram:{tmp_path}/d") as receiver:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", f"{tmp_path}/d")
        assert receiver.recv_from(timeout=GENEROUS) == (b"x", "unix-dgram:")


def test_inherited(pair):
    one, other = pair
    other.inherit()
    assert os.get_inheritable(other.fileno()) and os.get_blocking(other.fileno())


def test_async(tmp_path, listener):
    data = os.urandom(1_000_000)

    async def serve():
        with await listener.accept_async(timeout=GENEROUS) as server:
            await server.send_all_async(data, timeout=GENEROUS)
            assert await server.recv_async(timeout=GENEROUS) == b"done"

    async def main():
        serving = asyncio.ensure_future(serve())
        with await wigwag.Socket.connect_async(listener.local_address, timeout=GENEROUS, nodelay=True) as client:
            assert client.nodelay
            assert await client.recv_exact_async(len(data), timeout=GENEROUS) == data
            assert await client.send_async(b"done") == 4
            await serving
            assert await client.recv_async() == b""
        with pytest.raises(TimeoutError):
            await listener.accept_async(timeout=SHORT)
        address = f"unix-dgram:{tmp_path}/d"
        with wigwag.Socket.bind(address) as receiver, wigwag.Socket.bind(f"unix-dgram:{tmp_path}/e") as sender:
            while True:
                try:
                    sender.send_to(b"x", address, timeout=0)
                except BlockingIOError:
                    break
            with pytest.raises(TimeoutError):
                await sender.send_to_async(b"x", address, timeout=SHORT)
            waiting = asyncio.ensure_future(sender.send_to_async(b"x", address))
            await asyncio.sleep(SHORT)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await receiver.recv_from_async(timeout=GENEROUS) == (b"x", sender.local_address)
            await sender.send_to_async(b"y", address, timeout=GENEROUS)
        one, other = wigwag.Socket.pair()
        with one, other:
            receiving = asyncio.ensure_future(other.recv_fds_async(timeout=GENEROUS))
            await one.send_fds_async(b"z", [one], timeout=GENEROUS)
            received, fds = await receiving
            assert received == b"z"
            os.close(fds[0])
            receiving = asyncio.ensure_future(other.recv_async())
            await asyncio.sleep(0)
            other.close()
            with pytest.raises(ValueError):
                await receiving

    asyncio.run(main())


def test_interrupt_leaves_a_wait(pair):
    one, _ = pair
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            one.recv()
    finally:
        signal.signal(signal.SIGALRM, previous)
