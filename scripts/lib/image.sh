# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What is booted: the base images, from Debian's packages and cached by version; and the
# overlay with what the checkout builds, made anew in a second. Needs log.sh, cache.sh,
# root.sh, set.sh, kernel.sh. Source it; it defines functions and does nothing else.

# image_base: prints the directory of xen, vmlinuz, dom0.cpio and guest.cpio of the set in
# use, made first if the cache has none of these versions and these scripts.
image_base() {
	local hash dir
	kernel_ready
	hash=$(cd "$IDTS_TOP/scripts/lib" &&
		cat pack-images.sh domain/* | sha256sum | cut -c1-12)
	dir=$KERNEL_PLACE/images/$hash
	[ -e "$dir/dom0.cpio" ] || cache_locked image_fill "$dir" || die "no images"
	printf '%s\n' "$dir"
}

# image_fill DIR: makes the base images in DIR; of older ones the newest is kept, for
# another checkout may use it.
image_fill() {
	local dir=$1 new=$KERNEL_PLACE/images/.fill
	[ ! -e "$dir/dom0.cpio" ] || return 0
	cache_drop "$new"
	mkdir -p "$new" || return 1
	run_logged image "making the images of Xen $XEN, dom0 and guest" "$IDTS_CACHE/log/image" \
		root_run bash "$IDTS_TOP/scripts/lib/pack-images.sh" \
		"$IDTS_SET/tree" "$RELEASE" "$XEN" "$new" "$KERNEL_PLACE/tree" || return 1
	find "$KERNEL_PLACE/images" -mindepth 1 -maxdepth 1 ! -name .fill -printf '%T@ %p\n' |
		sort -rn | tail -n +3 | cut -d' ' -f2- | while read -r old; do cache_drop "$old"; done
	mv "$new" "$dir"
}

# image_overlay FILE: makes FILE, a cpio to follow dom0's: what target/dist and the agent
# hold, at their places, and /dist.cpio, the same once more, to follow a guest's.
image_overlay() {
	local out=$1 work=$1.work name
	rm -rf "$work"
	mkdir -p "$work/all/usr/lib/idts" "$work/all/usr/bin" "$work/all/usr/sbin" "$work/more"
	for name in idts_front.ko idts_back.ko; do
		[ ! -e "$IDTS_TOP/target/dist/$name" ] ||
			cp "$IDTS_TOP/target/dist/$name" "$work/all/usr/lib/idts/"
	done
	for name in idts tunnel-mgr; do
		[ ! -e "$IDTS_TOP/target/dist/$name" ] ||
			cp "$IDTS_TOP/target/dist/$name" "$work/all/usr/bin/"
	done
	cp "$IDTS_TOP/target/testbed-bin/tb-agent" "$work/all/usr/sbin/"
	# Given to the inner bash as its own text.
	# shellcheck disable=SC2016
	IDTS_BIND=$work root_run bash -ec '
		pack() { (cd "$1" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0); }
		pack "$1/all" >"$1/more/dist.cpio"
		pack "$1/more" | cat "$1/more/dist.cpio" - >"$1/whole"' pack "$work" || die "no overlay"
	mv "$work/whole" "$out"
	rm -rf "$work"
}
