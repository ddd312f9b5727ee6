"""A real PostgreSQL for tests: of the system, or of the package pgserver; in a directory of its own, on a Unix socket."""

import contextlib
import glob
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading


def binaries():
    """Where initdb and postgres are; None if nowhere."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]), reverse=True)
    found = shutil.which("postgres")
    if found:
        places.append(os.path.dirname(os.path.realpath(found)))
    carried = importlib.util.find_spec("pgserver")
    if carried is not None and carried.origin:
        places.append(str(pathlib.Path(carried.origin).parent / "pginstall/bin"))
    return next((pathlib.Path(place) for place in places if os.access(f"{place}/initdb", os.X_OK)), None)


class Conninfo(str):
    """Of a server, which ``restart`` ends, with all sessions, and starts again."""


@contextlib.contextmanager
def server(max_connections):
    """Runs one; gives its conninfo. As an ordinary user, since it refuses root."""
    place = binaries()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wwpytest-pg-"))
    user = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    data = folder / "data"
    options = {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, "stdin": subprocess.DEVNULL,
               "stdout": subprocess.DEVNULL, **user}
    try:
        made = subprocess.run(
            [place / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            stderr=subprocess.PIPE, timeout=60, **options)
        assert made.returncode == 0, made.stderr.decode()
        settings = {"max_connections": max_connections, "listen_addresses": "", "unix_socket_directories": str(folder),
                    "fsync": "off", "shared_buffers": "16MB", "autovacuum": "off", "log_min_messages": "warning"}
        settings = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command, running = [place / "postgres", "-D", data, *settings], []

        def start():
            with open(folder / "log", "ab") as log:
                running.append(subprocess.Popen(command, stderr=log, **options))
            _await(place, folder, running[-1])

        def stop():
            process = running.pop()
            process.send_signal(signal.SIGINT)  # ends all sessions
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(30)

        try:
            start()
            conninfo = Conninfo(f"host={folder} user=postgres dbname=postgres")
            conninfo.restart = lambda: (stop(), start())
            yield conninfo
        finally:
            if running:
                stop()
        assert "too many clients" not in (folder / "log").read_text() and "remaining connection slots" not in (
            folder / "log").read_text(), "it has refused somebody"
    finally:
        shutil.rmtree(folder)


def _answer_the_first(connection, ended):
    """As a server that lets somebody in, and then does nothing."""

    def message(kind, body):
        return kind + struct.pack("!I", len(body) + 4) + body

    with connection:
        length, = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
        connection.recv(length - 4, socket.MSG_WAITALL)
        settings = {b"server_version": b"15.0", b"client_encoding": b"UTF8", b"standard_conforming_strings": b"on"}
        told = b"".join(message(b"S", name + b"\0" + value + b"\0") for name, value in settings.items())
        connection.sendall(message(b"R", bytes(4)) + told + message(b"K", bytes(8)) + message(b"Z", b"I"))
        ended.wait()


@contextlib.contextmanager
def silent():
    """One that answers nothing once a client is connected; gives its conninfo."""
    ended, threads = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):  # it was shut down
                while True:
                    threads.append(threading.Thread(target=_answer_the_first, args=(server.accept()[0], ended)))
                    threads[-1].start()

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            port = server.getsockname()[1]
            yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable gssencmode=disable"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            serving.join()
            for thread in threads:
                thread.join()


def _await(place, folder, process):
    for _ in range(600):
        answer = subprocess.run([place / "pg_isready", "-q", "-h", folder], stdin=subprocess.DEVNULL, timeout=60)
        if answer.returncode == 0:
            return
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise AssertionError(f"it does not answer: {(folder / 'log').read_text()}")
