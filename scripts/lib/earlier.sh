# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Version 0.1.0, which users have: the commit that tests/v0.1.0 names, built for the kernel in use by
# the tools of today. Needs log.sh, checkout.sh, cache.sh, versions.sh, root.sh, set.sh, kdir.sh and the functions
# of scripts/build. Source it; it defines functions and does nothing else.
#
#   $KERNEL_PLACE/earlier/ID/tree/   the commit's files while it is built
#   $KERNEL_PLACE/earlier/ID/dist/   the modules, `idts`, `idts_c` and `idts.h`; comes last

# The kernels that it was made for. Later ones need not be able to build it.
EARLIER_SERIES=7.2

# earlier_id: prints the commit.
earlier_id() { grep -v '^#' "$IDTS_TOP/tests/v0.1.0"; }

# earlier_dist: makes target/earlier a link to what is built of the commit, built first if need be;
# or, where it cannot be built, a folder that holds the reason in the file `absent`.
earlier_dist() {
	local place link=$IDTS_TOP/target/earlier
	place=$KERNEL_PLACE/earlier/$(earlier_id)
	rm -rf "$link"
	if [ ! -d "$place/dist" ] && ! earlier_has_commit; then
		earlier_absent "this checkout's history does not reach back to version 0.1.0"
		return
	fi
	kdir_of_set >/dev/null
	if [ -d "$place/dist" ] || cache_locked_by "${place%/*}/lock" earlier_fill "$place"; then
		ln -s "$place/dist" "$link"
	elif [ "$(versions_series "$KERNEL")" != "$EARLIER_SERIES" ]; then
		earlier_absent "version 0.1.0 does not build for kernel $RELEASE"
	else
		die "version 0.1.0 does not build"
	fi
}

# earlier_has_commit: true if its files can be had; a shallow clone may lack them.
earlier_has_commit() {
	checkout_git cat-file -e "$(earlier_id)^{commit}" 2>/dev/null
}

# earlier_absent WHY: leaves the reason in place of the build.
earlier_absent() {
	mkdir -p "$IDTS_TOP/target/earlier"
	printf '%s\n' "$1" >"$IDTS_TOP/target/earlier/absent"
	say "$1"
}

# earlier_fill PLACE: builds it.
earlier_fill() {
	local place=$1 tree=$1/tree
	[ ! -d "$place/dist" ] || return 0
	cache_drop "$place"
	mkdir -p "$tree" || return 1
	checkout_git archive "$(earlier_id)" | tar -x -C "$tree" || return 1
	run_logged earlier "building version 0.1.0 (once; a minute or two)" \
		"$IDTS_CACHE/log/earlier" earlier_build "$tree" || return 1
	mv "$tree/target/dist" "$place/dist" && cache_drop "$tree"
}

# earlier_build TREE: modules, command and C program of the tree, into its target/dist.
earlier_build() {
	local tree=$1 dist=$1/target/dist name cc
	mkdir -p "$dist" || return 1
	make_modules "$tree" || return 1
	cargo_in "$tree" build -p idts --bins || return 1
	cc=$(versions_compiler "$IDTS_SET/root" "$KERNEL")
	root_run "$cc" -O2 -static -I "$tree/idts-common/uapi" -o "$dist/idts_c" \
		"$tree/tests/c/idts_c.c" || return 1
	for name in idts_front idts_back; do cp "$tree/target/$name.ko" "$dist/" || return 1; done
	cp "$tree/target/root/$TARGET/release/idts" "$tree/idts-common/uapi/idts.h" "$dist/"
}
