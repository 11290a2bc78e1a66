# SPDX-License-Identifier: GPL-2.0-or-later
#
# How the tests are built and run; included by the Makefile.

CLANG   ?= clang
SECONDS ?= 60
GUEST   := $B/tests/guest/guest.elf
# A make of our own, with the sanitizers that make check is run under.
SANITIZED = $(MAKE) --no-print-directory SAN=address,undefined

setup:
	@tests/setup.sh build

# What make check, demo, bench, bench-wan and fuzz need; apt is asked only for what is missing.
setup-%:
	@tests/setup.sh $*

# ---- what tests need beside the programs --------------------------------

$(GUEST): tests/guest/start.S tests/guest/guest.c tests/guest/guest.ld
	@mkdir -p $(@D)
	$(call say,GUEST,$@)$(MAKE) -s -C tests/guest OUT=$(abspath $(@D))

$B/tests/net/wanem: tests/net/wanem.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -o $@ $<

$B/tests/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) -std=gnu11 -D_GNU_SOURCE -I. $(WARN) $(CFLAGS) -o $@ $< -pthread

# What our own modules make of it, too.
$B/tests/bench/reduce: $B/tests/bench/reduce.o $(WIRE_OBJS)
	$(link)

test-tools: $(GUEST) $B/tests/net/wanem $B/tests/bench/flood

# ---- make check ----------------------------------------------------------

# The sanitizer flavour of everything, in its own build directory.  E2e too: a
# leak or a race with a real QEMU is what one would not find by hand.
check-unit:
	$Q$(SANITIZED) run-unit T=$T

check-fuzz:
	$Q$(SANITIZED) run-fuzz T=$T

check-e2e:
	$Q$(SANITIZED) run-e2e T=$T

# Threads: a build of its own, because TSan goes with no other sanitizer.
TSAN_CASES := tunnel/n link-tunnel/n managed/n postcopy/ resume/
.PHONY: check-tsan run-tsan
check-tsan:
	$Q$(MAKE) --no-print-directory SAN=thread run-tsan T=$T

run-tsan: all test-tools
	$QTSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan/suppressions \
	    tests/e2e/run --build $B $(or $T,$(TSAN_CASES))

check-scripts:
	@tests/house-rules

# The same on the build at hand: SAN= as given, or none.
.PHONY: run-unit run-fuzz run-e2e
run-unit: $(UNIT_TESTS)
	@tests/run-unit '$T' $^

run-fuzz: $(REPLAYS)
	@tests/run-fuzz '$T' $^

run-e2e: all test-tools
	$Qtests/e2e/run --build $B $(if $T,--name '$T')

check: setup-check
	$Qtests/check '$T'

# Other QEMUs are run from directories that tests/e2e/roots makes, if it may.
check-versions: setup-check
	@$(if $(NO_INSTALL),true,tests/e2e/roots)
	$Q$(MAKE) --no-print-directory -j$$(nproc) all test-tools
	$Qtests/e2e/versions --build $B

demo: setup-demo
	$Q$(MAKE) --no-print-directory -j$$(nproc) all test-tools
	$Qtests/e2e/demo --build $B

bench: setup-bench
	$Q$(MAKE) --no-print-directory -j$$(nproc) all $B/tests/bench/flood
	$Qtests/bench/run --build $B

# W: options of tests/bench/wan, such as W=--quick.
bench-wan: setup-bench-wan
	$Q$(MAKE) --no-print-directory -j$$(nproc) all test-tools
	$Qtests/bench/wan --build $B $W

# W: options of tests/bench/ideal, such as W='--dumps FIRST SECOND'.
bench-reduce: setup-demo
	$Q$(MAKE) --no-print-directory -j$$(nproc) $B/tests/bench/reduce $(GUEST)
	$Qtests/bench/ideal --build $B $W

# ---- libFuzzer -----------------------------------------------------------

FUZZB := build-fuzz
fuzz: setup-fuzz
	$Qtest -n "$F" || { echo 'which one? make fuzz F=NAME, of: $(FUZZERS)' >&2; exit 2; }
	@mkdir -p $(FUZZB)/corpus/$F
	$Q$(MAKE) --no-print-directory B=$(FUZZB) CC=$(CLANG) SAN=fuzzer-no-link,address,undefined $(FUZZB)/$F
	$(FUZZB)/$F -max_total_time=$(SECONDS) $(FUZZB)/corpus/$F tests/fuzz/corpus/$(F:fuzz-%=%)

$(FUZZB)/fuzz-%: $(FUZZB)/tests/fuzz/fuzz-%.o $(DAEMON_OBJS) $(QMP_OBJS) $(WIRE_OBJS)
	$(call say,LINK,$@)$(CC) -fsanitize=fuzzer,address,undefined $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) $(HTTP_LIBS)
