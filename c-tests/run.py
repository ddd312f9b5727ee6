#!/usr/bin/env python3
"""Builds and runs the C tests: c-tests/*.c against the library, c-tests/peers/*.c against libc alone.

Run from anywhere, after `make lib`. Without an option: every compiler that is there (with CI=true gcc and clang must
be), the symbol list, the header alone in C99 to C2x and C++17, and a program built against `make install`. Each other
mode builds what it needs and runs the same tests:

  --sanitize    clang's AddressSanitizer, LeakSanitizer and UndefinedBehaviourSanitizer in the tests, Rust's
                AddressSanitizer in the library; the tests of sanitize-skips.txt left out
  --valgrind    memcheck, with the tests of valgrind-skips.txt left out
  --old-kernel  with the newer system calls answering ENOSYS, and again EPERM; the Rust tests too
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import suite
from suite import BUILD, INCLUDE, ROOT, SHARED, TARGET, TESTS, WARNINGS, Totals, build, command

#: Newer than the oldest supported kernel, or refused by sandboxes; the library has another way for each.
REFUSED = [
    "pwritev2", "preadv2", "timer_create", "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "epoll_pwait2", "futex_waitv",
    "openat2", "close_range", "io_uring_setup", "faccessat2", "madvise_populate",
]


# --- plain ---

def check_symbols(directory):
    """Each exported function is in the checked-in list, and is called by a test."""
    listed = (ROOT / "bindings/c/symbols.txt").read_text().split()
    dynamic = command(["nm", "-D", "--defined-only", BUILD / "lib/libwigwag.so"])
    exported = sorted(re.findall(r"\bT (\w+)@@WIGWAG_0", dynamic))
    others = [line for line in dynamic.splitlines() if re.search(r" [TDBRW] ", line) and "@@WIGWAG_0" not in line]
    if exported != sorted(listed) or others:
        sys.exit(f"exported and listed symbols differ: {sorted(set(exported) ^ set(listed))} {others}")
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include/wigwag.h").read_text(), flags=re.S)
    declared = set(re.findall(r"\b(ww_\w+)\(", header))
    in_header = set(re.findall(r"#define (ww_\w+)\(|static inline .*?\b(ww_\w+)\(", header))
    declared -= {name for names in in_header for name in names}
    if declared - set(listed) or set(listed) - declared:
        sys.exit(f"header and symbol list differ: {sorted(declared ^ set(listed))}")
    called = set()
    for program in directory.glob("*"):
        if program.is_file():
            called |= set(re.findall(r"\bU (ww_\w+)", command(["nm", "-D", "--undefined-only", program])))
    if set(listed) - called:
        sys.exit(f"no test calls {sorted(set(listed) - called)}")


def check_header(found):
    """The header alone, in every dialect, with the warnings that users turn on."""
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "alone.c")
        names = sorted(set(re.findall(r"\b(WW_\w+_OPTIONS)_INIT\b", (ROOT / "include/wigwag.h").read_text())))
        uses = "\n".join(f"    {{ {name.lower()} options = {name}_INIT; (void)options; }}" for name in names)
        source.write_text(f'#include "wigwag.h"\nint main(void) {{\n{uses}\n'
                          "    int64_t times[] = {WW_FOREVER, WW_NOW, WW_MS(5), WW_SEC(1) + WW_MS(1)};\n"
                          "    return times[0] < 0 ? 0 : 1;\n}\n")
        strict, jobs = [*WARNINGS, "-Wconversion", "-Wsign-conversion", "-Wshadow"], []
        for compiler in found:
            for dialect in ("c99", "c11", "c2x"):
                jobs.append([compiler, f"-std={dialect}", *strict, "-Wstrict-prototypes", INCLUDE, "-fsyntax-only", source])
            jobs.append([compiler, "-x", "c++", "-std=c++17", *strict, "-Wold-style-cast", INCLUDE, "-fsyntax-only", source])
        suite.parallel(build, jobs)


def check_install(totals):
    """`make install` into an empty folder, and a program built by pkg-config from there, shared and static."""
    if not suite.have("pkg-config", "install"):
        return
    with tempfile.TemporaryDirectory(prefix="wwctest-install-") as prefix:
        library = pathlib.Path(prefix, "lib")
        command(["make", "--no-print-directory", "install", f"PREFIX={prefix}"])
        for path in ("lib/libwigwag.so.0", "lib/libwigwag.so", "lib/libwigwag.a", "lib/pkgconfig/wigwag.pc",
                     "include/wigwag.h"):
            if not pathlib.Path(prefix, path).exists():
                sys.exit(f"make install leaves out {path}")
        environment = dict(os.environ, PKG_CONFIG_PATH=str(library / "pkgconfig"))
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
        if command(["pkg-config", "--modversion", "wigwag"], env=environment).strip() != version:
            sys.exit("the installed wigwag.pc does not tell the version of Cargo.toml")
        source, program = TESTS / "document/eventfd.c", pathlib.Path(prefix, "program")
        expected = "Event written\nEvent received: 1\n"
        for kind in ("shared", "static"):
            if kind == "static":
                for shared in library.glob("*.so*"):
                    shared.unlink()
            flags = command(["pkg-config", "--cflags", "--libs", *(["--static"] if kind == "static" else []), "wigwag"],
                            env=environment).split()
            build([os.environ.get("CC", "cc"), "-std=c99", "-D_GNU_SOURCE", source, "-o", program, *flags])
            needed = re.findall(r"\(NEEDED\).*\[(.*)\]", command(["readelf", "-d", program]))
            if ("libwigwag.so.0" in needed) != (kind == "shared"):
                sys.exit(f"the {kind} program needs {needed}")
            printed = command([program], env={"LD_LIBRARY_PATH": str(library)})
            totals.add("install", pathlib.Path(kind), (1, [], None if printed == expected else printed))
            if kind == "shared":
                hello = pathlib.Path(prefix, "hello.c")
                for example in re.findall(r"^```c\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S):
                    hello.write_text(example)
                    build(["cc", hello, "-o", program, *flags])
                    printed = command([program], env={"LD_LIBRARY_PATH": str(library)})
                    totals.add("install", pathlib.Path("README"), (1, [], printed or None))


def plain(totals):
    found = suite.compilers()
    check_header(found)
    for compiler in found:
        directory = BUILD / "c-tests" / compiler
        programs = suite.build_all(compiler, directory, [], SHARED)
        check_symbols(directory)
        totals.run_all(compiler, programs)
    check_install(totals)


# --- checkers, and the proof that they check ---

def control(totals, label, name, compile_with, libraries, complaint, wrapper=(), environment=None):
    """A program with one defect on purpose, which the checker must stop with this complaint."""
    program = BUILD / "c-tests" / label / "controls" / name
    program.parent.mkdir(parents=True, exist_ok=True)
    build([*compile_with, "-std=c99", "-g", INCLUDE, TESTS / "controls" / f"{name}.c", "-o", program, *libraries])
    done = subprocess.run([*wrapper, program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, **(environment or {})))
    caught = done.returncode != 0 and complaint in done.stdout
    totals.add(f"{label} control", program, (1, [], None if caught else f"not caught: {done.stdout}"))


def host():
    return re.search(r"^host: (.*)", command(["rustc", "-vV"]), re.M)[1]


def sanitize(totals):
    if not suite.have("clang", "sanitize"):
        return
    check = ["clang", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    target = BUILD / "sanitize"
    # RUSTC_BOOTSTRAP: the flag is unstable, the compiler is not. --target keeps build scripts uninstrumented.
    command(["cargo", "build", "--quiet", "--package", "wigwag-c", "--target", host(), "--target-dir", target],
            env=dict(os.environ, RUSTC_BOOTSTRAP="1", RUSTFLAGS="-Zsanitizer=address"))
    library = target / host() / "debug/libwigwag_c.a"
    libraries = [library, *suite.system_libraries()]
    directory = BUILD / "c-tests/sanitize"
    programs = suite.build_all("clang", directory, check[1:], libraries)

    # Both sides are instrumented: object files call the checks, the program has the runtime in it.
    rust = subprocess.run(["nm", "--undefined-only", library], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if "__asan_report_store" not in rust.stdout:
        sys.exit("the library is not instrumented")
    for program in programs:
        symbols = command(["nm", program])
        for symbol in (r"[TW] __asan_init", r"[TW] __ubsan_handle_\w+", r"[TW] __lsan_do_leak_check"):
            if not re.search(rf"\b{symbol}\b", symbols):
                sys.exit(f"{program.name} lacks {symbol}")
    c_side = BUILD / "c-tests/sanitize/side.o"
    build([*check, "-std=c99", INCLUDE, "-c", TESTS / "eventfd.c", "-o", c_side])
    if not {"__asan_report_store8", "__ubsan_handle_type_mismatch_v1_abort"} <= set(
            re.findall(r"U (\w+)", command(["nm", "--undefined-only", c_side]))):
        sys.exit("the tests are not instrumented")
    print("sanitize: nm shows the checks in libwigwag.a (Rust) and in the tests (C), and one runtime in each program")

    environment = {"ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1", "UBSAN_OPTIONS": "print_stacktrace=1",
                   "WW_SLOW": "1"}
    for name, complaint in (("overrun", "heap-buffer-overflow"), ("leak", "LeakSanitizer: detected memory leaks"),
                            ("overflow", "signed integer overflow")):
        control(totals, "sanitize", name, check, libraries, complaint, environment=environment)
    run_most(totals, "sanitize", programs, environment=environment)


def left_out(label):
    """The tests that cannot run in a mode, by program: LABEL-skips.txt has `[rust/]program/test  reason`."""
    listed = {}
    for line in (TESTS / f"{label}-skips.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            test, _, reason = line.partition(" ")
            program, _, name = test.rpartition("/")
            if not reason.strip():
                sys.exit(f"{label}-skips.txt: {test} has no reason")
            if not program.startswith("rust/") and f"TEST({name})" not in (TESTS / f"{program}.c").read_text():
                sys.exit(f"{label}-skips.txt: there is no test {test}")
            listed.setdefault(program, []).append(name)
    return listed


def run_most(totals, label, programs, wrapper=(), environment=None):
    """Runs the programs without the tests of LABEL-skips.txt."""
    without = left_out(label)

    def one(program):
        names = " ".join(without.get(program.name, []))
        return suite.run(program, wrapper, {**(environment or {}), "WW_SKIP": f" {names} "})

    for program, result in zip(programs, suite.parallel(one, programs)):
        totals.add(label, program, result)
    print(f"{label}: {sum(map(len, without.values()))} tests left out, see c-tests/{label}-skips.txt")


def valgrind(totals):
    if not suite.have("valgrind", "valgrind"):
        return
    # The library of the development profile: optimised code looks at a field before it knows that it is there and
    # discards what it saw, which memcheck takes for the use of a value that was never set.
    command(["cargo", "build", "--quiet", "--package", "wigwag-c"])
    libraries = [TARGET / "debug/libwigwag_c.a", *suite.system_libraries()]
    directory = BUILD / "c-tests/valgrind"
    programs = suite.build_all("gcc", directory, [], libraries)
    check = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", f"--suppressions={TESTS / 'valgrind.supp'}",
             "--show-leak-kinds=definite,indirect,possible", "--errors-for-leak-kinds=definite,indirect,possible"]
    for name, complaint in (("overrun", "Invalid write"), ("leak", "definitely lost")):
        control(totals, "valgrind", name, ["gcc"], libraries, complaint, wrapper=check)
    run_most(totals, "valgrind", programs, check, {"WW_SLOW": "1"})


# --- old kernels ---

def old_kernel(totals):
    directory = BUILD / "c-tests/old-kernel"
    programs = suite.build_all("gcc", directory, [], SHARED)
    launcher = directory / "peers/without"
    build(["gcc", "-std=c99", *WARNINGS, TESTS / "seccomp/without.c", "-o", launcher])
    rust = suite.rust_tests()
    without = left_out("old-kernel")
    for answer in ("ENOSYS", "EPERM"):
        wrapper = [launcher, answer, ",".join(REFUSED)]
        totals.run_all(answer, programs, wrapper)

        def one(program):
            return suite.run_rust(program, wrapper, without=without.get(f"rust/{suite.name_of(program)}", []))

        chosen = [program for program in rust if answer == "ENOSYS" or not suite.goes_everywhere(program)]
        for program, result in zip(chosen, suite.parallel(one, chosen, suite.TESTS_AT_ONCE)):
            totals.add(f"{answer} rust", program, result)


MODES = {"sanitize": sanitize, "valgrind": valgrind, "old-kernel": old_kernel}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for mode in MODES:
        parser.add_argument(f"--{mode}", action="append_const", dest="modes", const=MODES[mode])
    totals = Totals()
    for mode in parser.parse_args().modes or [plain]:
        mode(totals)
    totals.end()


if __name__ == "__main__":
    main()
