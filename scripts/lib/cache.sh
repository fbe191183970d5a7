# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The machine's cache outside the checkout: where it is, how it is locked, how a part of
# it is filled. Needs log.sh. Source it; it defines functions and does nothing else.
#
#   $IDTS_CACHE/lock                 held while anything is filled
#   $IDTS_CACHE/cargo/               CARGO_HOME of the build root
#   $IDTS_CACHE/suites/SUITE         link to the set in use for SUITE
#   $IDTS_CACHE/sets/KERNEL_RUSTC/   all that belongs to these versions:
#       versions                     kernel, rustc, bindgen and others, as shell words
#       root/                        the build root               (root.sh)
#       tree/                        the packages of the domains  (image.sh)
#       kdir/                        kernel source and KDIR       (kdir.sh)
#       images/HASH/                 what is booted               (image.sh)
#       kernels/                     kernels built here           (kernel.sh)

# cache_init: sets IDTS_CACHE to the cache's place; makes nothing.
cache_init() {
	IDTS_CACHE=${IDTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/idts-testbed}
	export IDTS_CACHE
}

# cache_locked CMD...: runs CMD while nobody else fills the cache. A second run on the
# machine waits here, then finds the first one's work. CMD must not call it again.
cache_locked() {
	# For its user alone: build roots have programs that run as root, which nobody updates.
	[ -d "$IDTS_CACHE" ] || { mkdir -p "$IDTS_CACHE" && chmod 700 "$IDTS_CACHE"; }
	[ ! -e "$IDTS_CACHE/lock" ] || chmod 700 "$IDTS_CACHE"
	mkdir -p "$IDTS_CACHE/sets" "$IDTS_CACHE/suites" "$IDTS_CACHE/cargo"
	cache_locked_by "$IDTS_CACHE/lock" "$@"
}

# cache_locked_by FILE CMD...: the same with a lock of its own, for what takes long.
cache_locked_by() {
	local file=$1
	shift
	mkdir -p "${file%/*}"
	(
		if ! flock --nonblock 9; then
			step cache "another run is filling ${file%/*}; waiting for it"
			flock 9
		fi
		"$@"
	) 9>"$file"
}

# cache_drop DIR...: removes what an interrupted fill left, crossing no mount.
cache_drop() { rm -rf --one-file-system -- "$@"; }

# cache_tool HOW NAME VERSION: installs the program NAME from Rust's registry as `HOW install ARG...`
# does, in this VERSION, unless it is there. Called with the cache locked.
cache_tool() {
	local how=$1 name=$2 version=$3
	# What cargo notes of it: the host may not be able to run what the build root made.
	! grep -qs "^\"$name $version " "$IDTS_CACHE/tools/.crates.toml" || return 0
	"$how" install --quiet --locked --force --root "$IDTS_CACHE/tools" --version "$version" "$name" >&2
}
