# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Makes a KDIR: what `make -C KDIR M=...` needs to build Rust modules for a stock Debian
# kernel. Debian's headers lack the Rust crates' metadata; they are rebuilt here from
# linux-source with the kernel's own configuration and compilers. Needs log.sh, cache.sh,
# versions.sh, root.sh, kernel.sh. Source it; it defines functions and does nothing else.
#
# PLACE holds src/ (the source), obj/ (the KDIR) and complete (what it was made from).

# kdir_of_set: prints the KDIR of the set and kernel in use, making it first if need be. A
# kernel built here is its own.
kdir_of_set() {
	if kernel_is_stock; then
		kdir_at "$IDTS_SET/root" "$KERNEL" "$IDTS_SET/kdir"
	else
		kernel_ready && printf '%s\n' "$KERNEL_PLACE/obj"
	fi
}

# kdir_of_host KERNEL: the same for an installed kernel of the running system, with the
# compilers of the running system.
kdir_of_host() { kdir_at / "$1" "$IDTS_CACHE/kdirs/$1"; }

# kdir_at ROOT KERNEL PLACE: prints PLACE's KDIR, made anew unless it is complete and
# made from the versions that ROOT has now.
kdir_at() {
	local root=$1 kernel=$2 place=$3
	if ! kdir_fresh "$@"; then
		cache_locked kdir_fill "$@" >&2 || die "no KDIR for kernel $kernel"
	fi
	printf '%s\n' "$place/obj"
}

# kdir_fresh ROOT KERNEL PLACE: is PLACE complete, and made from these versions?
kdir_fresh() {
	[ -e "$3/complete" ] && [ "$(kdir_stamp "$1" "$2")" = "$(cat "$3/complete")" ]
}

# kdir_stamp ROOT KERNEL: prints what a KDIR depends on.
kdir_stamp() {
	local headers
	headers=$(versions_headers "$1" "$2")
	stat --format '%s %Y' "$headers/.config" "$headers/Module.symvers"
	[ "$1" != / ] || { rustc --version; bindgen --version; }
}

# kdir_fill ROOT KERNEL PLACE: makes the KDIR in PLACE. Not movable afterwards: the
# metadata remembers where it was made; the file `complete` comes last instead.
kdir_fill() {
	local root=$1 kernel=$2 place=$3 cc
	! kdir_fresh "$@" || return 0
	versions_check "$root" "$kernel" || return 1
	cc=$(versions_compiler "$root" "$kernel")
	cache_drop "$place"
	mkdir -p "$place/obj" || return 1
	kdir_unpack "$root" "$kernel" "$place/src" || return 1
	kdir_borrow "$root" "$kernel" "$place" .config .kernelvariables || return 1
	run_logged kdir "configuring it as Debian did" "$IDTS_CACHE/log/kdir-config" \
		kdir_make "$@" HOSTCC="$cc" olddefconfig || return 1
	kdir_check_config "$root" "$kernel" "$place" || return 1
	run_logged kdir "building its Rust metadata (2 minutes or so)" "$IDTS_CACHE/log/kdir-build" \
		kdir_make "$@" HOSTCC="$cc" prepare modules_prepare || return 1
	kdir_borrow "$root" "$kernel" "$place" Module.symvers vmlinux || return 1
	kdir_check_symbols "$kernel" "$place" || return 1
	kdir_stamp "$root" "$kernel" >"$place/complete"
}

# kdir_unpack ROOT KERNEL DIR: unpacks the source that KERNEL was built from.
kdir_unpack() {
	local archive
	archive=$(versions_source "$1" "$2") || return 1
	mkdir -p "$3" || return 1
	run_logged kdir "unpacking the source of kernel $2" "$IDTS_CACHE/log/kdir-source" \
		tar -xf "$archive" -C "$3" --strip-components=1
}

# kdir_borrow ROOT KERNEL PLACE FILE...: copies files of the headers package into the
# KDIR. vmlinux there is bare type information: without it modules have none either.
kdir_borrow() {
	local headers place=$3 file
	headers=$(versions_headers "$1" "$2")
	shift 3
	for file in "$@"; do
		[ ! -e "$headers/$file" ] || cp "$headers/$file" "$place/obj/$file" || return 1
	done
}

# kdir_make ROOT KERNEL PLACE ARG...: make in the kernel source, for the KDIR.
kdir_make() {
	local root=$1 kernel=$2 place=$3
	shift 3
	root_exec "$root" make -C "$place/src" O="$place/obj" -j"$(nproc)" KERNELRELEASE="$kernel" "$@"
}

# kdir_check_config ROOT KERNEL PLACE: refuses a configuration other than the stock
# kernel's. Versions of assembler, linker and the like may move: they change no layout.
kdir_check_config() {
	local kernel=$2 changed
	changed=$(diff "$(versions_headers "$1" "$2")/.config" "$3/obj/.config" | grep -E '^[<>] ' |
		grep -Ev '[ _](CC_VERSION_TEXT|(GCC|AS|LD|LLD|PAHOLE)_VERSION|OPENSSL_SUPPORTS_[A-Z_]*)[= ]' || true)
	say_none "kernel $kernel cannot be configured here as Debian did ('<' is Debian's):" "$changed"
}

# kdir_check_symbols KERNEL PLACE: refuses metadata whose Rust symbols the stock kernel
# does not export. Nothing else would notice before insmod: Debian's kernels carry no
# symbol checksums (MODVERSIONS).
kdir_check_symbols() {
	local kernel=$1 obj=$2/obj lost
	lost=$(comm -23 <(kdir_exports "$obj") <(cut -f2 "$obj/Module.symvers" | LC_ALL=C sort -u))
	[ -n "$lost" ] || return 0
	say "the Rust metadata does not fit kernel $kernel: $(wc -l <<<"$lost") symbols that it does not export, such as $(head -n 1 <<<"$lost")"
	return 1
}

# kdir_exports OBJ: prints the symbols that the crates built in OBJ would export.
kdir_exports() {
	sed -n 's/^EXPORT_SYMBOL_RUST_GPL(\(.*\));.*/\1/p' "$1"/rust/exports_*_generated.h |
		LC_ALL=C sort -u
}
