# The front door. Plain `make` lists what can be made.

BUILD := build
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
PYTHON ?= python3
CARGO ?= cargo
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME := libwigwag.so.0
# What Rust's standard library needs from the system.
SYSTEM_LIBS := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
VENV := $(BUILD)/venv

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z%-]*\):.*## /\1\t/p' Makefile | expand -t 16

.PHONY: needs
needs:
	@tools/needs $(CARGO) $(CC) $(PYTHON)

# --- the library ---

.PHONY: lib
lib: needs ## libwigwag.so, libwigwag.a and wigwag.pc in build/lib
	@$(CARGO) build --quiet --release --package wigwag-c
	@$(MAKE) --no-print-directory $(BUILD)/lib/$(SONAME) $(BUILD)/lib/wigwag.pc

$(BUILD)/lib/$(SONAME): $(TARGET_DIR)/release/libwigwag_c.a bindings/c/symbols.txt
	@mkdir -p $(BUILD)/lib
	@cp $< $(BUILD)/lib/libwigwag.a
	@{ echo 'WIGWAG_0 { global:'; sed 's/$$/;/' bindings/c/symbols.txt; echo 'local: *; };'; } > $(BUILD)/wigwag.map
	@$(CC) -shared -o $@ $$(sed 's/^/-Wl,-u,/' bindings/c/symbols.txt) $< $(SYSTEM_LIBS) \
		-Wl,-soname,$(SONAME),--version-script=$(BUILD)/wigwag.map,-z,defs,-z,nodelete,--gc-sections
	@ln -sf $(SONAME) $(BUILD)/lib/libwigwag.so

$(BUILD)/lib/wigwag.pc: bindings/c/wigwag.pc.in Cargo.toml Makefile
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@SYSTEM_LIBS@|$(SYSTEM_LIBS)|' $< > $@

.PHONY: install
install: lib ## install the library under PREFIX (and DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/lib/$(SONAME) $(DESTDIR)$(PREFIX)/lib/
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libwigwag.so
	install -m 644 $(BUILD)/lib/libwigwag.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/wigwag.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@SYSTEM_LIBS@|$(SYSTEM_LIBS)|' \
		bindings/c/wigwag.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/wigwag.pc

.PHONY: header
header: ## write include/wigwag.h anew from bindings/c
	@$(CARGO) run --quiet --package wigwag-header

# --- tests ---

.PHONY: test
test: needs ## everything that decides: Rust, C and Python
	@tools/test

# Parts of it: make test-rust, test-c, test-python; also test-lint, test-loom, test-sanitize, test-valgrind, test-documents,
# test-old_kernel and test-ordinary_user. tools/test --verbose shows their output as it comes.
.PHONY: test-%
test-%: needs ## one part of it: test-rust, test-c, test-python, …
	@tools/test $*

.PHONY: torture
torture: needs ## kill and stop processes at every point that differs, with optimised code, and at random for minutes
	WIGWAG_TORTURE=1 $(CARGO) test --release --package wigwag --test ring_kill --test ring_hostile --test ring_one_kill --test cell_kill --test topic_kill --test sync_kill --test lease_kill --test log_kill --test log_step --test named_kill --test placed_kill --test cell_hostile --test sync_hostile --test soak --test call_soak -- --nocapture

.PHONY: fuzz
fuzz: needs ## throw ever new bytes at what reads bytes of others, each target for WIGWAG_FUZZ_SECONDS (60); needs cargo-fuzz
	@tools/fuzz

.PHONY: loom
loom: needs ## explore the algorithms on shared memory with a model checker, further than make test does
	WIGWAG_PREEMPTIONS=$(or $(WIGWAG_PREEMPTIONS),2) RUSTFLAGS="--cfg loom --deny warnings" $(CARGO) test --package wigwag-models --test loom --target-dir $(TARGET_DIR)/loom -- --nocapture

.PHONY: layouts
layouts: needs ## have two builds of the library meet whose layouts differ
	RUSTFLAGS="--cfg wigwag_next_layout" $(CARGO) build --quiet --package wigwag-models --target-dir $(TARGET_DIR)/layout
	WIGWAG_OTHER_BUILD=$(abspath $(TARGET_DIR))/layout/debug/opens $(CARGO) test --package wigwag-models --test layouts

.PHONY: venv
venv: needs ## a virtual environment with the Python package in it, in build/venv
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check '.[test]'

# --- figures ---

.PHONY: tour
tour: lib ## run the document's programs on each mechanism, and measure them on this machine
	@$(PYTHON) c-tests/document/tour.py

.PHONY: bench
bench: lib venv ## measure the calls beside the system calls and the standard library's, in Markdown
	@$(PYTHON) benches/run.py --cc $(CC) --python $(VENV)/bin/python

.PHONY: bench-scenarios
bench-scenarios: venv ## measure channels, leases, pools of processes and logs beside their mechanisms and peers
	@$(CARGO) bench --quiet --bench channel --bench lease --bench pool
	@$(VENV)/bin/python benches/pools.py
	@$(VENV)/bin/python benches/logs.py

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD) $(TARGET_DIR)
