# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The fuzz targets of idts-common/core/fuzz: guided by coverage, under AddressSanitizer, which
# takes a nightly compiler, that of the host. cargo-fuzz is kept in the cache. Needs log.sh and
# cache.sh. Source it; it defines functions and does nothing else.

FUZZ_VERSION=0.13.2 # of cargo-fuzz: the newest of the day is not run unseen

# fuzz_cargo ARG...: the host's nightly cargo, with what the cache has for it.
fuzz_cargo() {
	PATH=$IDTS_CACHE/tools/bin:$PATH:$HOME/.cargo/bin CARGO_TARGET_DIR=$IDTS_TOP/target/fuzz \
		cargo +nightly "$@"
}

# fuzz_fetch: installs cargo-fuzz. Called with the cache locked.
fuzz_fetch() {
	cache_tool fuzz_cargo cargo-fuzz "$FUZZ_VERSION"
}

# fuzz_missing: prints why nothing can be fuzzed, or fails if all is there.
fuzz_missing() {
	if ! fuzz_cargo --version >/dev/null 2>&1; then
		echo "no nightly Rust on this machine (cargo +nightly)"
	elif ! command -v c++ >/dev/null; then
		echo "no C++ compiler on this machine"
	elif ! cache_locked fuzz_fetch; then
		echo "cargo-fuzz does not install"
	else
		return 1
	fi
}

# fuzz_start NAME SECONDS LOG: fuzzes one target in the background.
fuzz_start() {
	local corpus=$IDTS_TOP/target/fuzz/corpus/$1
	mkdir -p "$corpus"
	"$IDTS_TOP/target/fuzz/x86_64-unknown-linux-gnu/release/$1" "$corpus" -max_total_time="$2" \
		-timeout=120 -artifact_prefix="$IDTS_TOP/target/fuzz/$1-" >"$3" 2>&1 </dev/null &
}

# fuzz_pair SECONDS NAME...: one or two targets at once. Prints a line for each; the status
# is how many failed.
fuzz_pair() {
	local seconds=$1 name pid pids=() logs=$IDTS_TOP/target/fuzz/logs rc=0
	shift
	mkdir -p "$logs"
	for name in "$@"; do
		fuzz_start "$name" "$seconds" "$logs/$name"
		pids+=($!)
	done
	for name in "$@"; do
		pid=${pids[0]} pids=("${pids[@]:1}")
		if wait "$pid" && grep -q '^Done ' "$logs/$name"; then
			echo "test fuzz::$name ... ok"
			grep '^Done ' "$logs/$name" | sed "s/^Done/fuzz::$name:/"
		else
			rc=$((rc + 1))
			echo "test fuzz::$name ... FAILED; the end of $logs/$name:"
			tail -n 20 "$logs/$name"
		fi
	done
	return "$rc"
}

# fuzz_run SECONDS [-- [--list] FILTER]: fuzzes all targets whose name contains FILTER for
# SECONDS in all, or names them. Takes arguments and tells results as Rust's test programs do.
fuzz_run() {
	local seconds=$1 file name why names=() list='' passed=0 failed=0 skipped=0
	shift
	[ "${1:-}" != -- ] || shift
	[ "${1:-}" != --list ] || { list=1; shift; }
	for file in "$IDTS_TOP"/idts-common/core/fuzz/bin/*.rs; do
		name=$(basename "$file" .rs)
		case fuzz::$name in *"${1:-}"*) names+=("$name") ;; esac
	done
	if [ -n "$list" ]; then
		[ ${#names[@]} -eq 0 ] || printf 'fuzz::%s: test\n' "${names[@]}"
		return
	fi
	[ ${#names[@]} -gt 0 ] || return 0
	if why=$(fuzz_missing); then
		skipped=${#names[@]}
		printf "test fuzz::%s ... ignored, $why\n" "${names[@]}"
	elif ! (cd "$IDTS_TOP/idts-common/core" && fuzz_cargo fuzz build); then
		failed=1
	else
		seconds=$((seconds / ${#names[@]}))
		passed=${#names[@]}
		while [ ${#names[@]} -gt 0 ]; do
			fuzz_pair "$seconds" "${names[@]:0:2}" || failed=$((failed + $?))
			names=("${names[@]:2}")
		done
		passed=$((passed - failed))
	fi
	echo "test result: $([ "$failed" = 0 ] && echo ok || echo FAILED)." \
		"$passed passed; $failed failed; $skipped ignored"
	[ "$failed" = 0 ]
}
