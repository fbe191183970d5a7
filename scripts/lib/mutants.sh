# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The mutants of idts-core, by cargo-mutants: each small change to the code must fail a test.
# Those that cannot are named, each with its reason, in idts-common/core/mutants.toml. Needs
# log.sh, cache.sh, root.sh and a set (set_use). Source it; it defines functions and does
# nothing else.

# mutants_fetch: installs cargo-mutants. Called with the cache locked.
mutants_fetch() {
	[ -x "$IDTS_CACHE/tools/bin/cargo-mutants" ] ||
		root_run cargo install --quiet --locked --root "$IDTS_CACHE/tools" cargo-mutants
}

# mutants_run [ARG...]: tries all mutants, hours; fails if one survives. ARGs are those of
# cargo-mutants, such as --file.
mutants_run() {
	local rc=0
	cache_locked mutants_fetch || return 1
	# A mutant that runs into the time limit has been noticed too.
	root_run env PATH="$IDTS_CACHE/tools/bin:/usr/bin:/bin" CARGO_PROFILE_DEV_DEBUG=0 \
		PROPTEST_CASES=256 cargo mutants --package idts-core --config idts-common/core/mutants.toml \
		--output target --jobs 2 --minimum-test-timeout 300 --no-shuffle --colors never "$@" || rc=$?
	[ "$rc" -eq 0 ] || [ "$rc" -eq 3 ]
}
