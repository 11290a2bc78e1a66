# SPDX-License-Identifier: GPL-2.0-or-later
#
# multiferry: carry QEMU live migrations across a WAN.   make help
#
# CFLAGS and LDFLAGS belong to whoever builds; what the code needs is ours.

CC       ?= gcc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
SBINDIR  ?= $(PREFIX)/sbin
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/multiferry
UNITDIR  ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
BASHDIR  ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions
FISHDIR  ?= $(PREFIX)/share/fish/vendor_completions.d

VERSION  := 0.1.0

comma   := ,
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-7s %s\n' "$(1)" "$(2)";)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wvla -Wpointer-arith -Wformat=2 -Wundef
PKGS    := glib-2.0 gio-2.0 gio-unix-2.0 json-glib-1.0 gnutls libsystemd zlib libzstd
WIRE_PKGS := glib-2.0 zlib libzstd
QMP_PKGS  := glib-2.0 gio-2.0 gio-unix-2.0 json-glib-1.0

# Metrics by HTTP, where the library is there; make HTTP= does without it.
HTTP       = $(eval HTTP := $$(shell pkg-config --exists libmicrohttpd && echo yes))$(HTTP)
HTTP_CFLAGS = $(if $(HTTP),-DHAVE_LIBMICROHTTPD $(shell pkg-config --cflags libmicrohttpd))
HTTP_LIBS   = $(if $(HTTP),$(shell pkg-config --libs libmicrohttpd))

SANFLAG := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
OURS     = -std=gnu11 -D_GNU_SOURCE -DMULTIFERRY_VERSION='"$(VERSION)"' -I. -MMD -MP \
           $(WARN) $(SANFLAG) $(if $(WERROR),-Werror) $(PKG_CFLAGS)
# Asked once, and only when something is built.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
LIBS       = $(eval LIBS := $$(shell pkg-config --libs $(PKGS)) -pthread)$(LIBS)

# A build directory per flavour: sanitizer objects never mix with others.
B := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))

WIRE_SRCS   := $(wildcard wire/*.c)
QMP_SRCS    := $(wildcard qmp/*.c)
CLIENT_SRCS := $(wildcard daemon/client*.c)
DAEMON_SRCS := $(filter-out daemon/main.c $(CLIENT_SRCS),$(wildcard daemon/*.c))
# What the client shares with the daemon.
SHARED_SRCS := daemon/convergence.c daemon/units.c daemon/nearest.c daemon/traffic.c daemon/traffic-json.c \
               daemon/vmdesc.c

obj = $(patsubst %.c,$B/%.o,$(1))
WIRE_OBJS   := $(call obj,$(WIRE_SRCS))
QMP_OBJS    := $(call obj,$(QMP_SRCS))
DAEMON_OBJS := $(call obj,$(DAEMON_SRCS))
CLIENT_OBJS := $(call obj,$(CLIENT_SRCS) $(SHARED_SRCS))
# ThreadSanitizer cannot see the library's locks.
QMP_OBJS    += $(if $(filter thread,$(SAN)),$B/tests/tsan/glib-sync.o)
CLIENT_LIB_OBJS := $(filter-out $B/daemon/client.o,$(CLIENT_OBJS))

UNIT_WIRE   := $(patsubst %.c,$B/%,$(wildcard tests/unit/wire/test-*.c))
UNIT_QMP    := $(patsubst %.c,$B/%,$(wildcard tests/unit/qmp/test-*.c))
UNIT_DAEMON := $(patsubst %.c,$B/%,$(wildcard tests/unit/daemon/test-*.c))
UNIT_TESTS  := $(UNIT_WIRE) $(UNIT_QMP) $(UNIT_DAEMON)
FUZZERS     := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz-*.c))
REPLAYS     := $(addprefix $B/tests/fuzz/replay-,$(FUZZERS))

.PHONY: all help clean install deb demo check check-unit check-fuzz check-e2e \
        check-versions check-scripts check-tsan fuzz bench bench-wan bench-reduce setup test-tools
.SECONDARY:
.DELETE_ON_ERROR:

all: $B/multiferryd $B/multiferry

help:
	@printf '%s\n' \
	 'make              build multiferryd and multiferry into $B/' \
	 'make demo         migrate a live guest between two QEMUs through two daemons' \
	 'make check        all tests; T=NAME runs those whose name begins so' \
	 'make check-unit   unit tests under ASan and UBSan, and the fuzz corpora' \
	 'make check-e2e    with real QEMU' \
	 'make check-tsan   the data plane with real QEMU under ThreadSanitizer' \
	 'make check-versions  the e2e matrix on every QEMU version at hand' \
	 'make bench        relay cost beside haproxy, socat and stunnel' \
	 'make bench-wan    migrations over an emulated WAN beside QEMU alone; needs root; W=--quick' \
	 'make bench-reduce what is left of a guest'"'"'s memory by several ways to pack it, and by ours' \
	 'make fuzz F=fuzz-multifd [SECONDS=60]  run one libFuzzer target (clang)' \
	 'make deb          a Debian package in $B/deb/' \
	 'make install      PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)' \
	 'NO_INSTALL=1      never call apt; V=1 shows commands; SAN=address,undefined'

$B/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(OURS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

define link
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(SANFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS) $(MORE_LIBS)
endef

# Of what is linked with daemon/, which has it; the client does not.
$B/daemon/metrics-http.o: CPPFLAGS += $(HTTP_CFLAGS)
$B/multiferryd $(UNIT_DAEMON) $(REPLAYS): MORE_LIBS = $(HTTP_LIBS)

$B/multiferryd: $B/daemon/main.o $(DAEMON_OBJS) $(QMP_OBJS) $(WIRE_OBJS)
	$(link)

$B/multiferry: $(CLIENT_OBJS) $(QMP_OBJS) $(WIRE_OBJS)
	$(link)

# A test of wire/ links wire/ alone, so a call up into daemon/ cannot link.
$(UNIT_WIRE): $B/%: $B/%.o $(WIRE_OBJS)
	$(link)
$(UNIT_QMP): $B/%: $B/%.o $(QMP_OBJS)
	$(link)
$(UNIT_DAEMON): $B/%: $B/%.o $(DAEMON_OBJS) $(CLIENT_LIB_OBJS) $(QMP_OBJS) $(WIRE_OBJS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(SANFLAG) $(CFLAGS) $(LDFLAGS) -o $@ $(sort $(filter %.o,$^)) $(LIBS) $(MORE_LIBS)

$B/tests/fuzz/replay-%: $B/tests/fuzz/%.o $B/tests/fuzz/replay.o $(DAEMON_OBJS) $(QMP_OBJS) $(WIRE_OBJS)
	$(link)

-include $(shell find $B -name '*.d' 2>/dev/null)

include tests/tests.mk

clean:
	rm -rf build build-*

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 \
	    $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 \
	    $(DESTDIR)$(DOCDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR) \
	    $(DESTDIR)$(CATALOGDIR) $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	install -m 755 $B/multiferryd $(DESTDIR)$(SBINDIR)/
	install -m 755 $B/multiferry $(DESTDIR)$(BINDIR)/
	for page in docs/*.[1578]; do \
	    to=$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} && \
	    sed 's|@DOCDIR@|$(DOCDIR)|g' $$page > $$to && chmod 644 $$to || exit 1; \
	done
	install -m 644 LICENSE README.md NEWS.md docs/*.md docs/*.json systemd/multiferryd.conf $(DESTDIR)$(DOCDIR)/
	install -d $(DESTDIR)$(DOCDIR)/wireshark
	install -m 644 docs/wireshark/*.lua $(DESTDIR)$(DOCDIR)/wireshark/
	for unit in systemd/*.service systemd/*.socket systemd/*.timer; do \
	    sed 's|@SBINDIR@|$(SBINDIR)|g; s|@BINDIR@|$(BINDIR)|g' $$unit > $(DESTDIR)$(UNITDIR)/$${unit##*/} && \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; \
	done
	install -m 644 systemd/multiferry.sysusers $(DESTDIR)$(SYSUSERSDIR)/multiferry.conf
	install -m 644 systemd/multiferry.tmpfiles $(DESTDIR)$(TMPFILESDIR)/multiferry.conf
	install -m 644 systemd/multiferry.catalog $(DESTDIR)$(CATALOGDIR)/
	install -m 644 daemon/completion/multiferry.bash $(DESTDIR)$(BASHDIR)/multiferry
	ln -sf multiferry $(DESTDIR)$(BASHDIR)/multiferryd
	install -m 644 daemon/completion/_multiferry $(DESTDIR)$(ZSHDIR)/
	install -m 644 daemon/completion/multiferry.fish $(DESTDIR)$(FISHDIR)/

# Another version, say for a rebuild: make deb DEB_VERSION=0.1.0+1
DEB_VERSION ?= $(VERSION)
deb: setup-deb
	@systemd/deb/build $B $(DEB_VERSION)
