#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# pack-images.sh TREE KERNEL XEN OUT KERNEL_TREE: makes OUT/{xen,vmlinuz,vmlinux,guest.cpio,
# dom0.cpio} from the packages in TREE, the kernel and its modules from KERNEL_TREE. Runs in
# the build root, whose kmod, cpio and xz it uses. A domain gets the programs named here, the
# libraries that those need, and the modules named here with all that they depend on; nothing
# is compressed, for an emulator pays for that.
set -euo pipefail

TREE=$1 KERNEL=$2 XEN=$3 OUT=$4 KERNEL_TREE=$5
HERE=$(dirname "$(readlink -f "$0")")
XEN_LIB=/usr/lib/xen-$XEN

DOM0_PROGRAMS=("$XEN_LIB"/bin/{xl,xenstored,xenconsoled,xenconsole,xen-init-dom0,libxl-save-helper}
	"$XEN_LIB"/bin/{xenstore-control,lsevtchn,xen-diag,xentop}
	/usr/bin/xenstore{,-chmod,-exists,-list,-ls,-read,-rm,-watch,-write})
DOM0_MODULES=(xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs virtio_net e1000
	xen-netback bridge stp llc tun loop xen-blkback)
GUEST_MODULES=(xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-netfront
	xen-blkfront)

# put MODE FROM TO: copies a file of our own into an image.
put() { install -D -m "$1" "$HERE/domain/$2" "$3"; }

# take DIR PATH: copies PATH, links followed, from TREE into the image DIR.
take() { [ -e "$1$2" ] || install -D -m 755 "$(resolve "$2")" "$1$2"; }

# resolve PATH: prints where PATH of TREE really is, its links read as inside TREE.
resolve() { printf '%s\n' "$TREE$(chroot "$TREE" /usr/bin/busybox readlink -f "$1")"; }

# libraries PROGRAM: prints the shared libraries that PROGRAM of TREE is linked to.
libraries() {
	chroot "$TREE" /lib64/ld-linux-x86-64.so.2 \
		--library-path "$XEN_LIB/lib/x86_64-linux-gnu" --list "$1" |
		sed -n 's/^.* => \(\/[^ ]*\) .*/\1/p'
}

# take_program DIR PROGRAM: a program with its libraries, also to be found in PATH.
take_program() {
	local lib
	take "$1" "$2"
	while read -r lib; do take "$1" "$lib"; done < <(libraries "$2")
	case $2 in "$XEN_LIB"/bin/*) ln -sf "$2" "$1/usr/sbin/$(basename "$2")" ;; esac
}

# take_modules DIR MODULE...: modules of KERNEL and what they depend on, unpacked.
take_modules() {
	local dir=$1 file name to=$1/usr/lib/modules/$KERNEL
	shift
	mkdir -p "$to"
	cp "$KERNEL_TREE/usr/lib/modules/$KERNEL"/modules.{builtin,builtin.modinfo,order} "$to/"
	modprobe --dirname "$KERNEL_TREE" --set-version "$KERNEL" --show-depends --all "$@" |
		awk '$1 == "insmod" { print $2 }' | sort -u |
		while read -r file; do
			name=${file#"$KERNEL_TREE"}
			mkdir -p "$dir/usr/${name%/*}"
			case $file in
			*.xz) xz -dc "$file" >"$dir/usr/${name%.xz}" ;;
			*.zst) zstd -qdc "$file" >"$dir/usr/${name%.zst}" ;;
			*) cp "$file" "$dir/usr/$name" ;;
			esac
		done
	depmod -b "$dir/usr" "$KERNEL"
}

# base DIR ROLE: what every domain has: busybox, accounts, init and its scripts.
base() {
	local dir=$1 role=$2 sub applet
	mkdir -p "$dir"/{dev,proc,sys,run,tmp,root,boot,mnt,var/{lib,log},etc/xen/scripts}
	for sub in bin sbin lib lib64; do
		mkdir -p "$dir/usr/$sub"
		ln -s "usr/$sub" "$dir/$sub"
	done
	ln -s ../run "$dir/var/run"
	ln -s ../run/lock "$dir/var/lock"
	chmod 1777 "$dir/tmp"
	take "$dir" /usr/bin/busybox
	while read -r applet; do
		[ -e "$dir/$applet" ] || ln -s /usr/bin/busybox "$dir/$applet"
	done < <(chroot "$TREE" /usr/bin/busybox --list-full)
	ln -s /usr/bin/busybox "$dir/init"
	printf '%s\n' "$role" >"$dir/etc/role"
	printf '%s\n' "$role" >"$dir/etc/hostname"
	printf 'root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$dir/etc/passwd"
	printf 'root:x:0:\ntty:x:5:\nidts:x:990:\nnogroup:x:65534:\n' >"$dir/etc/group"
	put 755 "boot.$role" "$dir/etc/boot"
	put 644 boot.common "$dir/etc/boot.common"
	put 755 agent "$dir/etc/agent"
	put 644 inittab "$dir/etc/inittab"
	put 644 mdev.conf "$dir/etc/mdev.conf"
}

# pack DIR FILE: DIR as an uncompressed cpio, padded for others to follow it.
pack() {
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort |
		cpio --quiet --create --format=newc --owner=0:0 --reproducible) >"$2"
}

# number FILE OFFSET BYTES: prints a number from a file, in the machine's byte order.
number() { od -A n -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# unwrap BZIMAGE: prints the kernel proper, an ELF file, out of its self-extracting
# wrapper; where its payload lies is told by the boot protocol's header. Xen boots either,
# but unpacking takes an emulated domain seconds at each start. False if there is no wrapper.
unwrap() {
	local at length unpack
	[ "$(dd if="$1" iflag=skip_bytes,count_bytes skip=$((0x202)) count=4 status=none |
		tr -d '\0')" = HdrS ] || return 1
	at=$((($(number "$1" $((0x1f1)) 1) + 1) * 512 + $(number "$1" $((0x248)) 4)))
	length=$(($(number "$1" $((0x24c)) 4) - 4)) # the last word is the unpacked size
	case $(od -A n -t x1 -j "$at" -N 2 "$1" | tr -d ' ') in
	28b5) unpack='zstd -dcq' ;;
	fd37) unpack='xz -dc' ;;
	*) return 1 ;;
	esac
	dd if="$1" iflag=skip_bytes,count_bytes skip="$at" count="$length" bs=1M status=none | $unpack
}

# guest DIR: a guest has the kernel that booted it too: a file worth sending.
guest() {
	base "$1" guest
	take_modules "$1" "${GUEST_MODULES[@]}"
	cp "$OUT/vmlinuz" "$1/boot/vmlinuz"
}

# dom0 DIR: Xen's tools, and what guests are made from.
dom0() {
	local dir=$1 program
	base "$dir" dom0
	take_modules "$dir" "${DOM0_MODULES[@]}"
	for program in "${DOM0_PROGRAMS[@]}"; do take_program "$dir" "$program"; done
	take "$dir" /lib64/ld-linux-x86-64.so.2
	take "$dir" /usr/lib/x86_64-linux-gnu/libgcc_s.so.1 # for pthread_cancel
	ln -s "xen-$XEN" "$dir/usr/lib/xen"
	printf '%s\n' "$XEN_LIB/lib/x86_64-linux-gnu" /usr/lib/x86_64-linux-gnu >"$dir/etc/ld.so.conf"
	ldconfig -r "$dir"
	put 755 vif-bridge "$dir/etc/xen/scripts/vif-bridge"
	put 755 block "$dir/etc/xen/scripts/block"
	put 644 xl.conf "$dir/etc/xen/xl.conf"
	mkdir -p "$dir/guest"
	ln "$OUT/vmlinux" "$dir/guest/vmlinuz"
	ln "$OUT/guest.cpio" "$dir/guest/guest.cpio"
}

work=$OUT/.work
rm -rf "$work"
mkdir -p "$work"
gzip -dc "$TREE/boot/xen-$XEN-amd64.gz" >"$OUT/xen"
cp "$KERNEL_TREE/usr/lib/modules/$KERNEL/vmlinuz" "$OUT/vmlinuz" 2>/dev/null ||
	cp "$KERNEL_TREE/boot/vmlinuz-$KERNEL" "$OUT/vmlinuz"
[ -e "$KERNEL_TREE/usr/lib/modules/$KERNEL/modules.dep" ] || depmod -b "$KERNEL_TREE" "$KERNEL"
unwrap "$OUT/vmlinuz" >"$OUT/vmlinux" || cp "$OUT/vmlinuz" "$OUT/vmlinux"
guest "$work/guest"
pack "$work/guest" "$OUT/guest.cpio"
dom0 "$work/dom0"
pack "$work/dom0" "$OUT/dom0.cpio"
rm -rf "$work"
