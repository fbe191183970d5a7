# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# A set is what belongs to one kernel: build root, packages of the domains, KDIR, images.
# Chooses the set of a suite, fills it when it is not there. Needs log.sh, cache.sh,
# host.sh, versions.sh, root.sh, tree.sh, kernel.sh. Source it; it defines functions and does
# nothing else.

# set_use: sets IDTS_SET to the set of the suite IDTS_SUITE (sid if unset), filling it
# first if the cache has none. Reads the set's KERNEL, RUSTC, XEN; chooses the kernel to boot.
set_use() {
	cache_init
	kernel_choose
	IDTS_SUITE=${IDTS_SUITE:-sid}
	local link=$IDTS_CACHE/suites/$IDTS_SUITE
	if [ ! -e "$link/versions" ] || [ "$(id -u)" -ne 0 ]; then
		host_check "$HOST_DISK_MB"
		host_prepare
		cache_locked set_fill "$IDTS_SUITE" >&2 || die "no build root for suite '$IDTS_SUITE'"
	fi
	IDTS_SET=$(readlink -f "$link")
	export IDTS_SET IDTS_SUITE
	# shellcheck source=/dev/null
	. "$IDTS_SET/versions"
	set_hold
	kernel_use
}

# set_refresh: fetches the suite as it is today. If that fails, or today's tools do not
# fit today's kernel, the set in the cache stays in use, and that is said.
set_refresh() {
	cache_init
	kernel_choose
	IDTS_SUITE=${IDTS_SUITE:-sid}
	host_check "$HOST_DISK_MB"
	host_prepare
	if cache_locked set_fill "$IDTS_SUITE" refresh; then
		cache_locked set_drop_old
		return 0
	fi
	[ -e "$IDTS_CACHE/suites/$IDTS_SUITE/versions" ] || die "no build root for suite '$IDTS_SUITE'"
	say "keeping the set in the cache: $(basename "$(readlink -f "$IDTS_CACHE/suites/$IDTS_SUITE")")"
}

# set_hold: as long as this run and what it starts last, nobody drops the set in use.
set_hold() {
	[ -z "${SET_LOCK:-}" ] || return 0
	exec {SET_LOCK}<"$IDTS_SET/versions"
	flock --shared "$SET_LOCK"
}

# set_drop_old: removes the sets that no suite has any more, but those that are in use. Called with the
# cache locked.
set_drop_old() {
	local set
	for set in "$IDTS_CACHE"/sets/*/; do
		set=${set%/}
		[ -e "$set/versions" ] || continue
		[ -z "$(find "$IDTS_CACHE/suites" -lname "../sets/${set##*/}")" ] || continue
		if flock --nonblock "$set/versions" true; then
			step root "removing the old set ${set##*/}"
			cache_drop "$set"
		else
			step root "the old set ${set##*/} is in use; it stays"
		fi
	done
}

# set_fill SUITE [refresh]: makes a set of SUITE in a temporary place, then puts it into
# use. Does nothing if another run has just done so. Called with the cache locked.
set_fill() {
	local suite=$1 link=$IDTS_CACHE/suites/$1 new=$IDTS_CACHE/sets/.fill key
	[ "${2:-}" = refresh ] || [ ! -e "$link/versions" ] || return 0
	step root "making a build root of suite $suite in $IDTS_CACHE (once; about 2 minutes)"
	cache_drop "$new"
	mkdir -p "$new" || return 1
	root_fill "$suite" "$new/root" || return 1
	tree_fill "$new/root" "$new/tree" || return 1
	set_versions "$suite" "$new" >"$new/versions" || return 1
	# shellcheck source=/dev/null
	key=$(. "$new/versions" && printf '%s_rustc-%s_xen-%s' "$KERNEL" "$RUSTC" "$XEN")
	if [ -e "$IDTS_CACHE/sets/$key/versions" ]; then
		cache_drop "$new"
	else
		cache_drop "$IDTS_CACHE/sets/$key"
		mv "$new" "$IDTS_CACHE/sets/$key" || return 1
	fi
	ln -sfnT "../sets/$key" "$link" || return 1
	step root "suite $suite is ready: $key"
}

# set_versions SUITE DIR: prints the versions of the set in DIR, as shell words.
set_versions() {
	local root=$2/root kernel
	kernel=$(versions_kernel "$root")
	printf 'KERNEL=%q\n' "$kernel"
	printf 'RUSTC=%q\n' "$(versions_have "$root" rustc)"
	printf 'BINDGEN=%q\n' "$(versions_have "$root" bindgen)"
	printf 'FITS=%q\n' "$(versions_check "$root" "$kernel" 2>/dev/null && echo yes)"
	printf 'XEN=%q\n' "$(tree_xen "$2/tree")"
	printf 'FROM_SUITE=%q\n' "$1"
}
