"""What the runners of C programs share: where things are, compilers, building, running, and the lines they print.

Lines that tools/test reads: `skip NAME: reason` for a test that was left out, `N passed, N failed` at the end.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ROOT / "c-tests"
BUILD = ROOT / "build"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CI = os.environ.get("CI") == "true"
#: Of the core: all, so that it is built once for all that is in Rust.
FEATURES = ["--features", "wigwag/log,wigwag/tracing,wigwag/tokio"]
#: Tests wait for much of their time: one process more than there are processors.
TESTS_AT_ONCE = 1 + (os.cpu_count() or 1)
PYTEST = ["-W", "error", "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--numprocesses={TESTS_AT_ONCE}",
          "--dist=worksteal"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
INCLUDE = f"-I{ROOT / 'include'}"
SHARED = [f"-L{BUILD / 'lib'}", f"-Wl,-rpath,{BUILD / 'lib'}", "-lwigwag"]
TIMEOUT = 300


def system_libraries():
    """What a program that links the static library needs besides: the pkg-config file's private libraries."""
    text = (BUILD / "lib/wigwag.pc").read_text()
    return re.search(r"^Libs.private: *(.*)$", text, re.M)[1].split()


def compilers():
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    if CI and len(found) < 2:
        sys.exit("with CI=true both gcc and clang must be there")
    return found


def have(tool, purpose):
    """Whether a tool is there; says so if not, in the form of a skipped test."""
    if shutil.which(tool):
        return True
    print(f"skip {purpose}: {tool} is not installed")
    return False


def parallel(function, items, at_once=os.cpu_count()):
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, items))


def command(arguments, **options):
    """Runs a tool that must succeed; gives what it printed."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **{"cwd": ROOT, **options})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(arguments):
    """Runs a compiler; its output is an error by itself."""
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")


def build_all(compiler, directory, flags, libraries):
    """Compiles every test and peer; gives the test programs."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "peers").mkdir(parents=True)
    jobs, programs = [], []
    for source in sorted((TESTS / "peers").glob("*.c")):
        jobs.append([compiler, "-std=c99", *WARNINGS, "-D_GNU_SOURCE", source, "-o", directory / "peers" / source.stem,
                     "-pthread", "-lrt"])
    for source in sorted(TESTS.glob("*.c")):
        program = directory / source.stem
        programs.append(program)
        jobs.append([compiler, "-std=c99", *WARNINGS, "-g", *flags, INCLUDE, source, "-o", program, *libraries, "-pthread",
                     "-lrt"])
    parallel(build, jobs)
    return programs


def run_bounded(arguments, environment, directory=ROOT):
    """Runs a program that may hang; gives its status, None if it had to be killed, and what it printed."""
    with subprocess.Popen(arguments, cwd=directory, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          start_new_session=True) as process:
        try:
            printed, _ = process.communicate(timeout=TIMEOUT)
            return process.returncode, printed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, f"did not end within {TIMEOUT} s\n{process.communicate()[0]}"


def run(program, wrapper=(), environment=None, directory=ROOT):
    """Runs one test program; gives how many tests passed, the `skip` lines, and what it printed if it failed."""
    status, printed = run_bounded([*wrapper, program], {"WW_PEERS": str(program.parent / "peers"), **(environment or {})},
                                  directory)
    passed = len(re.findall(r"^ok ", printed, re.M))
    skipped = re.findall(r"^skip .*", printed, re.M)
    return passed, skipped, None if status == 0 and passed + len(skipped) else printed


def rust_tests():
    """The test programs in Rust, built."""
    lines = command(["cargo", "test", "--quiet", "--no-run", "--package", "wigwag", "--package", "wigwag-c", *FEATURES,
                     "--message-format=json"]).splitlines()
    messages = (json.loads(line) for line in lines if line.startswith("{"))
    return [pathlib.Path(message["executable"]) for message in messages
            if message.get("executable") and message["profile"]["test"]]


def name_of(program):
    """A program's name, without what cargo adds to it."""
    return re.sub(r"-[0-9a-f]{16}$", "", program.name)


def goes_everywhere(program):
    """Whether a program of `rust_tests` kills at every point that there is: that takes minutes, and its points are the same
    whoever runs it and whichever way a system call is refused."""
    return name_of(program).endswith(("_kill", "_step"))


def run_rust(program, wrapper=(), environment=None, directory=ROOT, without=()):
    """As `run` for one of `rust_tests`, without the tests of these names."""
    skips = [argument for name in without for argument in ("--skip", name)]
    status, printed = run_bounded([*wrapper, program, *skips], environment or {}, directory)
    passed = re.search(r"^test result: ok\. (\d+) passed", printed, re.M)
    skipped = re.findall(r"^skip .*", printed, re.M)  # to the harness they have passed
    ignored = [f"skip {name}: {reason}" for name, reason in re.findall(r"^test (\S+) \.\.\. ignored(?:, (.*))?$", printed, re.M)]
    return int(passed[1]) - len(skipped) if passed else 0, skipped + ignored, None if status == 0 and passed else printed


class Totals:
    """Counts, and prints one line for each program."""

    def __init__(self):
        self.passed = self.failed = 0

    def add(self, label, program, result):
        passed, skipped, trouble = result
        self.passed += passed
        name = name_of(program)
        print(f"{label} {name}: {'FAILED' if trouble else f'{passed} passed'}", flush=True)
        for line in skipped:
            print(line.replace("skip ", f"skip {label.replace(' ', '-')}/{name}/", 1))
        if trouble:
            self.failed += 1
            print(trouble, flush=True)

    def run_all(self, label, programs, wrapper=(), environment=None):
        results = parallel(lambda program: run(program, wrapper, environment), programs, TESTS_AT_ONCE)
        for program, result in zip(programs, results):
            self.add(label, program, result)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed != 0)
