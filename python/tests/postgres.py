"""A real PostgreSQL for tests: of the system, or of the package pgserver; in a directory of its own, on a Unix socket."""

import contextlib
import glob
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile


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


def _await(place, folder, process):
    for _ in range(600):
        answer = subprocess.run([place / "pg_isready", "-q", "-h", folder], stdin=subprocess.DEVNULL, timeout=60)
        if answer.returncode == 0:
            return
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise AssertionError(f"it does not answer: {(folder / 'log').read_text()}")
