# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What a program that was written for the crate `idts` of version 0.1.0 meets in that of today, by
# cargo-semver-checks. tests/semver.txt has the breaks that are meant, each of them in CHANGELOG.md. Needs
# log.sh, checkout.sh, cache.sh, root.sh, earlier.sh and a set (set_use). Source it; it defines functions
# and does nothing else.

SEMVER_VERSION=0.51.0 # of cargo-semver-checks

# semver_fetch: installs cargo-semver-checks. Called with the cache locked.
semver_fetch() { cache_tool root_cargo cargo-semver-checks "$SEMVER_VERSION"; }

# semver_breaks LOG: prints "LINT: ITEM" for each break that cargo-semver-checks found.
semver_breaks() {
	awk '/^--- failure / { lint = $3; sub(/:$/, "", lint) }
		/^ *Summary/ { lint = "" }
		lint != "" && /^  [^ ]/ { sub(/^ */, ""); sub(/( in |, previously ).*/, ""); print lint ": " $0 }' "$1" |
		LC_ALL=C sort
}

# semver_run: compares; fails at a break that tests/semver.txt does not have, or at one that is gone.
semver_run() {
	local base=$IDTS_TOP/target/semver/v0.1.0 log=$IDTS_TOP/target/semver/log
	if ! earlier_has_commit; then
		echo "this checkout's history does not reach back to version 0.1.0"
		return 1
	fi
	cache_locked semver_fetch || return 1
	rm -rf "$base" && mkdir -p "$base" || return 1
	checkout_git archive "$(earlier_id)" | tar -x -C "$base" || return 1
	# Breaks make it fail; without its last line it has not come to compare.
	root_run env PATH="$IDTS_CACHE/tools/bin:/usr/bin:/bin" CARGO_TARGET_DIR="$IDTS_TOP/target/semver" \
		cargo semver-checks --package idts --only-explicit-features --baseline-root "$base" \
		--release-type patch --color never >"$log" 2>&1 || true
	grep -q '^ *Finished ' "$log" || { cat "$log"; return 1; }
	diff <(grep -v '^#' "$IDTS_TOP/tests/semver.txt") <(semver_breaks "$log") ||
		{ echo "tests/semver.txt (<) and what was found (>) differ; $log has it all"; return 1; }
}
