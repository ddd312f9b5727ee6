"""The stubs as users' type checkers see them."""

import pathlib
import subprocess
import sys


def test_typical_uses_are_checked(tmp_path):  # where mypy leaves its cache, and finds no source of this package
    uses = pathlib.Path(__file__).with_name("typing_uses.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", uses],
        capture_output=True, text=True, timeout=50, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
