# What a newcomer types. Every target installs the (Debian) packages it lacks.
CARGO ?= cargo
PREFIX ?= /usr/local
# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 30

.PHONY: help build demo test bench bench-containers bench-recording compare fidelity timing fuzz lint install clean

help:
	@echo "make demo     see an attack on a network of 65,536 hosts that do not exist (needs root)"
	@echo "make test     run every test, those in network namespaces included (needs root)"
	@echo "make bench    measure, and compare with the stored baseline"
	@echo "make bench-containers  measure containers: first bytes, kills, a sweep, 500 at once, 2,000 lives (needs root; ARGS='cold soak cycles=50')"
	@echo "make bench-recording   measure what recording costs: SSH and TLS in the middle, captures, exports of a session of 1 GB (needs root, 5 GB of disk, 3 GB of memory)"
	@echo "make compare  measure against other switches and against Linux (needs root; ARGS=--help)"
	@echo "make fidelity have nmap name emulated hosts, NAMES=a file of names (needs root; ARGS=--help)"
	@echo "make timing   ask whether a stopwatch tells emulated hosts from real ones (needs root; ARGS=--help)"
	@echo "make build    build target/release/honeyweave"
	@echo "make install  copy it to $(PREFIX)/sbin"
	@echo "make fuzz     fuzz everything that reads what others wrote, FUZZ_SECONDS=$(FUZZ_SECONDS) a target"
	@echo "make lint     formatting, clippy, documentation, licenses"

build:
	@scripts/packages.sh build
	$(CARGO) build --release --bin honeyweave

demo:
	@demo/run.sh

test:
	@scripts/test.sh

bench:
	@CARGO="$(CARGO)" scripts/bench.sh

bench-containers:
	@scripts/packages.sh test
	$(CARGO) bench --bench containers -- $(or $(ARGS),all)

bench-recording:
	@scripts/packages.sh test
	@rm -f $(or $(CARGO_TARGET_DIR),target)/ssh_middle.json $(or $(CARGO_TARGET_DIR),target)/tls_middle.json
	@failed=0; for bench in ssh_middle tls_middle recording; do \
		echo "$(CARGO) bench --bench $$bench"; $(CARGO) bench --bench $$bench || failed=1; \
	done; exit $$failed

compare:
	@scripts/compare.sh $(ARGS)

timing:
	@scripts/timing.sh $(ARGS)

fidelity:
	@scripts/fidelity.sh $(NAMES) $(ARGS)

fuzz:
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

lint:
	@scripts/lint.sh

# Not a prerequisite: `make build && sudo make install` leaves no files of root's in target/.
install:
	install -D -m 0755 target/release/honeyweave $(DESTDIR)$(PREFIX)/sbin/honeyweave

clean:
	$(CARGO) clean
