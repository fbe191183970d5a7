# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Which kernel is booted: Debian's own (stock), or one built here from the same source with
# the Rust at hand, small (built) or small and full of checks (debug). IDTS_KERNEL says which;
# kernel/*.config say what is in those. Needs log.sh, cache.sh, versions.sh, root.sh, kdir.sh.
# Source it; it defines functions and does nothing else.
#
#   $IDTS_SET/kernels/source/          linux-source with kernel/*.patch, once for all of them
#   $IDTS_SET/kernels/KIND-HASH/       a kernel of these versions and this configuration:
#       obj/                           where it is built; a KDIR
#       tree/                          kernel and modules, as the images take them
#       images/                        what is booted (image.sh)
#       complete                       comes last

# kernel_choose: makes IDTS_KERNEL what it is by default, if nothing was chosen.
kernel_choose() { export IDTS_KERNEL=${IDTS_KERNEL:-stock}; }

# kernel_use: sets RELEASE, what `uname -r` will say; KERNEL_PLACE, where the kernel's images
# and, of a kernel built here, all of it are. Part of set_use; builds nothing.
kernel_use() {
	case $IDTS_KERNEL in
	stock)
		[ "${FITS-yes}" = yes ] || die "suite $IDTS_SUITE has no tools that fit kernel $KERNEL; $VERSIONS_WAY_OUT"
		RELEASE=$KERNEL KERNEL_PLACE=$IDTS_SET
		;;
	built | debug)
		RELEASE=${KERNEL%-amd64}-$IDTS_KERNEL
		KERNEL_PLACE=$IDTS_SET/kernels/$IDTS_KERNEL-$(kernel_stamp | sha256sum | cut -c1-12)
		;;
	*) die "--kernel is stock, built or debug, not '$IDTS_KERNEL'" ;;
	esac
}

# kernel_is_stock: true if the kernel is Debian's binary.
kernel_is_stock() { [ "$IDTS_KERNEL" = stock ]; }

# kernel_name: prints the kernel's release and origin, for people.
kernel_name() {
	case $IDTS_KERNEL in
	stock) echo "$RELEASE, Debian's own" ;;
	built) echo "$RELEASE, built here, small" ;;
	debug) echo "$RELEASE, built here, small, with lockdep, kmemleak and other checks" ;;
	esac
}

# kernel_ready: makes sure that the kernel in use is there, building it if need be.
kernel_ready() {
	kernel_is_stock || [ -e "$KERNEL_PLACE/complete" ] ||
		cache_locked_by "$IDTS_SET/kernels/lock" kernel_fill >&2 || die "no kernel $RELEASE"
}

# kernel_configs: prints the files that make up the configuration.
kernel_configs() {
	printf '%s\n' "$IDTS_TOP/scripts/lib/kernel/built.config"
	[ "$IDTS_KERNEL" = built ] || printf '%s\n' "$IDTS_TOP/scripts/lib/kernel/$IDTS_KERNEL.config"
}

# kernel_stamp: prints what a kernel built here depends on.
kernel_stamp() {
	local root=$IDTS_SET/root package series
	series=$(versions_series "$KERNEL")
	for package in "linux-source-$series" rustc bindgen "$(versions_compiler "$root" "$KERNEL")"; do
		printf '%s %s\n' "$package" "$(versions_package "$root" "$package")"
	done
	kernel_configs | xargs -d '\n' grep -hE '^(CONFIG_|# CONFIG_.* is not set)'
	kernel_patches | xargs -d '\n' cat
}

# kernel_patches: prints the files of what is changed in Debian's source; each says why.
kernel_patches() { printf '%s\n' "$IDTS_TOP"/scripts/lib/kernel/*.patch; }

# kernel_fill: builds the kernel. An interrupted build is taken up where it ended: make knows
# what is whole.
kernel_fill() {
	local obj=$KERNEL_PLACE/obj log=$IDTS_CACHE/log/kernel-$IDTS_KERNEL
	[ ! -e "$KERNEL_PLACE/complete" ] || return 0
	kernel_source || return 1
	mkdir -p "$obj" || return 1
	if [ ! -e "$obj/.kernelvariables" ]; then
		printf 'override KERNELRELEASE = %s\nCC = %s\n' \
			"$RELEASE" "$(versions_compiler "$IDTS_SET/root" "$KERNEL")" >"$obj/.kernelvariables" || return 1
	fi
	kernel_configs | xargs -d '\n' cat >"$obj/wanted.config" || return 1
	run_logged kernel "configuring $RELEASE" "$log-config" \
		kernel_make KCONFIG_ALLCONFIG="$obj/wanted.config" allnoconfig || return 1
	kernel_check_config "$obj" || return 1
	run_logged kernel "building $RELEASE (once; some 10 minutes on two cores)" "$log-build" \
		kernel_make vmlinux modules || return 1
	run_logged kernel "installing it for the images" "$log-install" kernel_install || return 1
	kernel_drop_old
	kernel_stamp >"$KERNEL_PLACE/complete"
}

# kernel_source: unpacks the source that the set's kernel was made from, and patches it.
kernel_source() {
	local place=$IDTS_SET/kernels patch log=$IDTS_CACHE/log/kernel-patch
	[ ! -e "$place/source/patched" ] ||
		! kernel_patches | xargs -d '\n' cat | cmp -s - "$place/source/patched" || return 0
	cache_drop "$place/.source"
	cache_drop "$place/source"
	kdir_unpack "$IDTS_SET/root" "$KERNEL" "$place/.source" || return 1
	for patch in $(kernel_patches); do
		run_logged kernel "applying ${patch##*/}" "$log" \
			root_run patch -d "$place/.source" -p1 -i "$patch" || return 1
	done
	kernel_patches | xargs -d '\n' cat >"$place/.source/patched" || return 1
	mv "$place/.source" "$place/source"
}

# kernel_make ARG...: make in the source, for the kernel in use; gives way to others.
kernel_make() {
	root_run nice -n 19 make -C "$IDTS_SET/kernels/source" O="$KERNEL_PLACE/obj" -j"$(nproc)" \
		HOSTCC="$(versions_compiler "$IDTS_SET/root" "$KERNEL")" "$@"
}

# kernel_check_config OBJ: refuses a configuration that lacks what was asked for, as happens
# when an option moves or depends on one that is not there.
kernel_check_config() {
	local lost
	lost=$(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$1/wanted.config" |
		grep -vxFf "$1/.config" || true)
	say_none "kernel $RELEASE cannot be configured as scripts/lib/kernel/ has it; these are lost:" "$lost"
}

# kernel_install: puts kernel and modules where the images take them from. The kernel is the
# bare one: Xen boots it, and has nothing to unpack.
kernel_install() {
	local tree=$KERNEL_PLACE/tree
	cache_drop "$tree"
	mkdir -p "$tree/boot" "$tree/usr/lib" || return 1
	ln -s usr/lib "$tree/lib" || return 1 # where depmod and modprobe look
	kernel_make INSTALL_MOD_PATH="$tree/usr" modules_install &&
		root_run objcopy --strip-debug --strip-unneeded \
			"$KERNEL_PLACE/obj/vmlinux" "$tree/boot/vmlinuz-$RELEASE"
}

# kernel_drop_old: removes older kernels of this kind but the newest of them, which another
# checkout may use.
kernel_drop_old() {
	find "$IDTS_SET/kernels" -mindepth 1 -maxdepth 1 -name "$IDTS_KERNEL-*" \
		! -path "$KERNEL_PLACE" -printf '%T@ %p\n' | sort -rn | tail -n +2 | cut -d' ' -f2- |
		while read -r old; do cache_drop "$old"; done
}
