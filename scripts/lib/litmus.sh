# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The litmus tests of the protocol's memory order (idts-common/core/tests/litmus), judged
# by herd7 under the kernel's own memory model, which comes with the kernel source of the
# set in use. Needs log.sh, cache.sh, root.sh and a set (set_use). Source it; it defines
# functions and does nothing else.

# litmus_where: prints where herd7 is: the build root, or else the host's /.
litmus_where() {
	if root_run sh -c 'command -v herd7' >/dev/null 2>&1; then
		echo "$IDTS_SET/root"
	elif command -v herd7 >/dev/null; then
		echo /
	else
		return 1
	fi
}

# litmus_fetch: installs herd7 in the build root, which is made without it because nothing
# else needs it. Called with the cache locked.
litmus_fetch() {
	litmus_where >/dev/null || root_add herd7 herdtools7
}

# litmus_missing: prints why the tests cannot run, or fails if they can.
litmus_missing() {
	if ! litmus_where >/dev/null; then
		echo "herd7 (Debian's herdtools7) is neither in the build root nor here"
	elif [ ! -e "$(litmus_model)/linux-kernel.cfg" ]; then
		echo "$(litmus_model) is missing"
	else
		return 1
	fi
}

# litmus_model: prints the directory of the kernel's memory model.
litmus_model() { echo "$IDTS_SET/kdir/src/tools/memory-model"; }

# litmus_one ROOT FILE: judges one test; fails, saying why, if herd7's verdict is not the
# "Result:" that FILE names.
litmus_one() {
	local root=$1 file=$2 name want out have
	name=$(basename "$file" .litmus)
	want=$(sed -n 's/^ \* Result: //p' "$file")
	out=$(cd "$(litmus_model)" && root_exec "$root" herd7 -conf linux-kernel.cfg "$file" 2>&1)
	have=$(sed -n "s/^Observation $name \([A-Za-z]*\) .*/\1/p" <<<"$out")
	[ -z "$want" ] || [ "$have" != "$want" ] || return 0
	say "litmus::$name: want ${want:-a Result: line}, have ${have:-no verdict}"
	[ -n "$have" ] || say "$out"
	return 1
}

# litmus_run [-- [--list] FILTER]: runs all tests whose name contains FILTER, or names
# them. Takes arguments and tells results as Rust's test programs do; fails if one failed
# or there is none at all.
litmus_run() {
	local file name root='' why passed=0 failed=0 skipped=0 list=''
	[ "${1:-}" != -- ] || shift
	[ "${1:-}" != --list ] || { list=1; shift; }
	if [ -z "$list" ] && ! litmus_where >/dev/null; then
		cache_locked litmus_fetch || true # then they are skipped
	fi
	why=$(litmus_missing) || root=$(litmus_where)
	for file in "$IDTS_TOP"/idts-common/core/tests/litmus/*.litmus; do
		name=litmus::$(basename "$file" .litmus)
		[ -e "$file" ] || { say "there are no litmus tests"; return 1; }
		case $name in *"${1:-}"*) ;; *) continue ;; esac
		if [ -n "$list" ]; then
			echo "$name: test"
		elif [ -z "$root" ]; then
			skipped=$((skipped + 1))
			echo "test $name ... ignored, $why"
		elif litmus_one "$root" "$file"; then
			passed=$((passed + 1))
			echo "test $name ... ok"
		else
			failed=$((failed + 1))
			echo "test $name ... FAILED"
		fi
	done
	[ -n "$list" ] || echo "test result: $([ "$failed" = 0 ] && echo ok || echo FAILED)." \
		"$passed passed; $failed failed; $skipped ignored"
	[ "$failed" = 0 ]
}
