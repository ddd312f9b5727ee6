#!/usr/bin/env python3
"""Builds and runs the C tests: c-tests/*.c against the library, c-tests/peers/*.c against libc alone.

Run from the project's root, after `make lib`. Every compiler that is there is used (with CI=true: gcc and clang must
be). Checks as well that each exported function is called by a test, and that the header stands alone in C99 to C2x and
C++17. Prints one line per test program and, at the end, `N passed, N failed`.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ROOT / "c-tests"
BUILD = ROOT / "build"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
TIMEOUT = 300


def compilers():
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    if os.environ.get("CI") == "true" and len(found) < 2:
        sys.exit("with CI=true both gcc and clang must be there")
    return found


def build(command):
    """Runs a compiler; its output is an error by itself."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def build_all(compiler, directory, flags, libraries):
    """Compiles every test and peer; gives the test programs."""
    (directory / "peers").mkdir(parents=True, exist_ok=True)
    jobs, programs = [], []
    for source in sorted((TESTS / "peers").glob("*.c")):
        jobs.append([compiler, "-std=c99", *WARNINGS, "-D_GNU_SOURCE", source, "-o", directory / "peers" / source.stem,
                     "-pthread", "-lrt"])
    for source in sorted(TESTS.glob("*.c")):
        program = directory / source.stem
        programs.append(program)
        jobs.append([compiler, "-std=c99", *WARNINGS, "-g", *flags, f"-I{ROOT / 'include'}", source, "-o", program,
                     *libraries, "-pthread", "-lrt"])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build, jobs))
    return programs


def run(program, directory, wrapper=(), environment=None):
    """Runs one test program; gives what it printed if it failed."""
    env = dict(os.environ, WW_PEERS=str(directory / "peers"), **(environment or {}))
    try:
        done = subprocess.run([*wrapper, program], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, timeout=TIMEOUT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except subprocess.TimeoutExpired as expired:
        return 0, f"did not end within {TIMEOUT} s\n{expired.output}"
    passed = len(re.findall(r"^ok ", done.stdout, re.M))
    return passed, None if done.returncode == 0 and passed else done.stdout


def run_all(label, programs, directory, wrapper=(), environment=None):
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda program: run(program, directory, wrapper, environment), programs)
        for program, (count, trouble) in zip(programs, results):
            passed += count
            print(f"{label} {program.name}: {'FAILED' if trouble else f'{count} passed'}", flush=True)
            if trouble:
                failed += 1
                print(trouble)
    return passed, failed


def check_symbols(directory):
    """Each exported function is in the checked-in list, and is called by a test."""
    listed = (ROOT / "bindings/c/symbols.txt").read_text().split()
    dynamic = subprocess.run(["nm", "-D", "--defined-only", BUILD / "lib/libwigwag.so"], check=True,
                             capture_output=True, text=True).stdout
    exported = sorted(re.findall(r"\bT (\w+)@@WIGWAG_0", dynamic))
    others = [line for line in dynamic.splitlines() if re.search(r" [TDBRW] ", line) and "@@WIGWAG_0" not in line]
    if exported != sorted(listed) or others:
        sys.exit(f"exported and listed symbols differ: {sorted(set(exported) ^ set(listed))} {others}")
    declared = set(re.findall(r"\b(ww_\w+)\(", re.sub(r"/\*.*?\*/", "", (ROOT / "include/wigwag.h").read_text(), flags=re.S)))
    if declared - set(listed) - {"ww_init_options"} or set(listed) - declared:
        sys.exit(f"header and symbol list differ: {sorted(declared ^ set(listed))}")
    called = set()
    for program in directory.glob("*"):
        if program.is_file():
            undefined = subprocess.run(["nm", "-D", "--undefined-only", program], check=True, capture_output=True, text=True)
            called |= set(re.findall(r"\bU (ww_\w+)", undefined.stdout))
    if set(listed) - called:
        sys.exit(f"no test calls {sorted(set(listed) - called)}")


def check_header(found):
    """The header alone, in every dialect."""
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "alone.c")
        names = sorted(set(re.findall(r"\b(WW_\w+_OPTIONS)_INIT\b", (ROOT / "include/wigwag.h").read_text())))
        uses = "\n".join(f"    {{ {name.lower()} options = {name}_INIT; (void)options; }}" for name in names)
        source.write_text(f'#include "wigwag.h"\nint main(void) {{\n{uses}\n    return 0;\n}}\n')
        for compiler in found:
            for dialect in ("c99", "c11", "c2x"):
                build([compiler, f"-std={dialect}", *WARNINGS, f"-I{ROOT / 'include'}", "-fsyntax-only", source])
            build([compiler, "-x", "c++", "-std=c++17", *WARNINGS, f"-I{ROOT / 'include'}", "-fsyntax-only", source])


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = compilers()
    check_header(found)
    passed = failed = 0
    for compiler in found:
        directory = BUILD / "c-tests" / compiler
        shutil.rmtree(directory, ignore_errors=True)
        shared = [f"-L{BUILD / 'lib'}", f"-Wl,-rpath,{BUILD / 'lib'}", "-lwigwag"]
        programs = build_all(compiler, directory, [], shared)
        check_symbols(directory)
        results = run_all(compiler, programs, directory)
        passed, failed = passed + results[0], failed + results[1]
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
