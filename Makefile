# What one does with a checkout. `make build` makes .venv with everything in it; every other target builds first.
# As root on Debian, system packages that are missing are installed; otherwise their names are said.

PYTHON ?= python3
BIN := .venv/bin
TYPED := $(filter-out mta/_fast/%,$(wildcard mta/*.pxd mta/*/*.pxd))
COMPILED := setup.py $(wildcard mta/_fast/*.pyx mta/_fast/*.pxd mta/_fast/*.h) $(TYPED) $(TYPED:.pxd=.py)
HAS_PYTHON := $(PYTHON) -c 'import ensurepip, venv, sysconfig, os; os.stat(sysconfig.get_path("include") + "/Python.h")' && command -v gcc
HAS_NAMESERVER := command -v nsd
HAS_PEERS := command -v smtp-sink && command -v swaks && command -v strace
HAS_MANAGERS := command -v supervisord && command -v systemd-analyze && command -v systemd-socket-activate
HAS_NODE := command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 20)'
HAS_VALGRIND := command -v valgrind && ls /usr/include/valgrind/callgrind.h
HAS_CLIENTS := command -v curl && command -v msmtp && command -v dovecot

# $(call need,COMMAND THAT SUCCEEDS WHERE ALL IS THERE,DEBIAN PACKAGES)
# Debian starts the daemons of what it installs, unless policy-rc.d says no.
define need
@export PATH="$$PATH:/usr/sbin"; { $(1); } >/dev/null 2>&1 || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive policy=/usr/sbin/policy-rc.d; \
		[ -e $$policy ] || { trap "rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(2) >/dev/null; \
	fi; { $(1); } >/dev/null || { echo "missing: please install $(2)" >&2; exit 1; }; }
endef

# A benchmark that fails leaves no result that would be taken for a whole one.
.DELETE_ON_ERROR:

.PHONY: build run test lint bench bench-full counts micro torture tools peers clean

build: .venv/compiled

tools:
	$(call need,$(HAS_PYTHON),gcc python3 python3-dev python3-venv)

# Installing compiles, too; where only a source of what is compiled has changed, compiling is enough.
.venv/compiled: pyproject.toml $(COMPILED) | tools
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@if [ $@ -nt pyproject.toml ]; then \
		$(BIN)/python setup.py -q build_ext --inplace --force; \
	else \
		$(BIN)/pip install -q --disable-pip-version-check -e '.[test,dev,bench]'; \
	fi
	@touch $@

run: build
	@printf '%s\n' 'Send a first mail from another terminal:' \
		"  $(BIN)/python -c \"import smtplib; smtplib.SMTP('127.0.0.1', 2525).sendmail('me@example.test', 'you@example.test', 'Subject: hello')\"" \
		'  swaks --server 127.0.0.1:2525 --from me@example.test --to you@example.test' \
		'It lands in       var/mail/example.test/you/new/' \
		'See the queue:    $(BIN)/mta queue list -c deploy/example.toml' \
		'See what happens: $(BIN)/mta events -c deploy/example.toml --follow' \
		'Ctrl-C stops the server in order.'
	@exec $(BIN)/mta serve -c deploy/example.toml

# Peers for the tests. Postfix is wanted for its programs: without a configuration its own daemon does not start. Exim
# and OpenSMTPD are unpacked beside it, into /usr/local/lib/mta-peers, and where there is Node.js so is Haraka (42 MB).
peers:
	@command -v smtp-sink >/dev/null || [ -x /usr/sbin/smtp-sink ] || [ "$$(id -u)" != 0 ] || \
		! command -v debconf-set-selections >/dev/null || \
		echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
	$(call need,$(HAS_PEERS),postfix strace swaks)
	$(call need,$(HAS_NAMESERVER),nsd)
	$(call need,$(HAS_MANAGERS),supervisor systemd)
	$(call need,$(HAS_CLIENTS),curl dovecot-imapd msmtp)
	$(call need,$(HAS_VALGRIND),valgrind)
	@sh bench/peers/beside.sh
	@! { $(HAS_NODE); } >/dev/null 2>&1 || sh bench/peers/haraka.sh

# The scanners once more with asserts and tracing; `mta` then comes from build/debug, and MTA_FROM makes sure of it.
test: build peers
	$(BIN)/pytest -n 2 --dist worksteal
	rm -rf build/debug
	MTA_BUILD=debug $(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation --target build/debug .
	MTA_FROM=build/debug $(BIN)/pytest -o pythonpath='build/debug .' tests/fast

lint: build
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint mta bench

# A peer that cannot be had is left out, by name.
bench: build
	-@$(MAKE) --no-print-directory peers
	$(BIN)/python -m bench.suite run headline

# After an interruption it goes on where it was, as long as nothing was built again.
bench-full: bench/results/idle.json bench/results/deep.json
	-@$(MAKE) --no-print-directory peers
	$(BIN)/python -m bench.suite run full --resume $(patsubst %,--with %,$^)

bench/results/idle.json: .venv/compiled
	$(BIN)/python -m bench.idle --json $@

bench/results/deep.json: .venv/compiled
	$(BIN)/python -m bench.deep --depths 100000,1000000 --json $@

# Instructions a message, against those that are kept for this build.
counts: build
	$(call need,$(HAS_VALGRIND),valgrind)
	$(BIN)/python -m bench.counts

# Times of scanners, session, codec, store and schedule.
micro: build
	$(BIN)/python -m bench.micro

# Reloads and upgrades, then kills under load, counted: no client notices the former, and what got a 250 arrives.
torture: build
	$(BIN)/python -m bench.reload
	$(BIN)/python -m bench.kill

clean:
	rm -rf .venv build dist mta/*.so mta/*/*.so bench/load/*.so
