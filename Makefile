# SPDX-License-Identifier: GPL-2.0-or-later
# A thin front on Meson and Ninja; `make help` says what there is.

SAN ?=
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build$(if $(SAN),-$(SAN))
SECONDS ?= 60

ifneq ($(filter-out address undefined thread,$(SAN)),)
$(error SAN must be address, undefined or thread, not "$(SAN)")
endif

SAN_ARGS := $(if $(SAN),-Db_sanitize=$(SAN) -Db_lundef=false)

.PHONY: all help deps demo check check-long kvm-selftests lint bench bench-block bench-softkvm fuzz install clean
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

help:
	@echo "make               build; the programs lie in build/"
	@echo "make demo          boot a Debian kernel to its shell, with disk, network and two processors"
	@echo "make check         all tests (SAN=address|undefined|thread: under a sanitizer)"
	@echo "make check-long    the slow ones too"
	@echo "make kvm-selftests the kernel's own tests of KVM (DOCS=1: write docs/kvm-selftests.md)"
	@echo "make lint          format, floors, headers"
	@echo "make bench         side by side with QEMU (DOCS=1: write docs/benchmarks.md)"
	@echo "make bench-softkvm software KVM, natively and against TCG (DOCS=1; ROUNDS=3 SCALE=100 ROWS= ENGINES=)"
	@echo "make bench-block   disk images side by side with QEMU's code"
	@echo "make fuzz T=NAME   fuzz one target (SECONDS=60); without T: list them"
	@echo "make deps          install by apt what is missing"
	@echo "make install       DESTDIR=… PREFIX=/usr/local"

deps:
	@tools/deps

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD) --prefix=$(PREFIX) $(SAN_ARGS)

demo: all
	@tools/demo $(BUILD)

check: all
	@tools/check $(BUILD)

check-long: all
	@LODGE_LONG=1 tools/check $(BUILD)

kvm-selftests: all
	@tools/kvm-selftests $(if $(DOCS),--write docs/kvm-selftests.md) $(BUILD)

lint: deps
	@tools/lint

bench: all
	@tools/bench $(BUILD) $(if $(DOCS),--write docs/benchmarks.md)

# ROWS: names of rows; none: all. ENGINES: of lodge, tcg, tcg10. QEMU10: the path of tcg10's program.
bench-softkvm: all
	@tools/bench-softkvm $(BUILD) $(ROWS) $(if $(DOCS),--write docs/benchmarks.md) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SCALE),--scale $(SCALE)) \
		$(if $(ENGINES),--engines "$(ENGINES)") $(if $(QEMU10),--qemu10 "$(QEMU10)")

bench-block: all
	@tools/bench-block $(BUILD)

fuzz: deps
	@tools/fuzz "$(T)" $(SECONDS)

install: all
	meson configure $(BUILD) --prefix=$(PREFIX) >/dev/null
	DESTDIR=$(DESTDIR) meson install -C $(BUILD)

clean:
	rm -rf build build-address build-undefined build-thread build-fuzz
