# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The build root: a Debian of the wanted suite in a directory, with the compilers that
# built its kernel, so that the host needs none. How it is made, and how a command runs
# in it. Needs log.sh, cache.sh, host.sh, versions.sh. Source it; it defines functions
# and does nothing else.

# What the root holds besides the kernel's headers and source.
ROOT_TOOLS=(rustc cargo rust-src rustfmt rust-clippy bindgen clang)
ROOT_PACKAGES=(libxen-dev libc6-dev make flex bison libelf-dev libssl-dev openssl bc kmod
	python3 dwarves shellcheck git cpio xz-utils zstd patch pkgconf)

# root_exec ROOT CMD...: runs CMD in ROOT, in a mount namespace of its own; / is the
# running system itself.
root_exec() {
	local root=$1
	shift
	if [ "$root" = / ]; then "$@"; else
		unshare --mount --propagation private -- \
			bash "$IDTS_TOP/scripts/lib/enter-root.sh" "$root" "$@"
	fi
}

# root_run CMD...: runs CMD in the root of the set in use (set_use chooses it).
root_run() { root_exec "$IDTS_SET/root" "$@"; }

# root_cargo ARG...: cargo there.
root_cargo() { root_run cargo "$@"; }

# root_fill SUITE DIR: makes DIR a build root of SUITE, its tools those of its kernel; where there
# are none, and a kernel is to be built anyway, those at hand.
root_fill() {
	local suite=$1 dir=$2 base=$1 kernel dates=()
	[ "$suite" != experimental ] || base=sid
	# For this once: what the root is told by a file of its own holds for good.
	# shellcheck disable=SC2016 # the hook's own words
	! host_is_stale || dates=(--aptopt='Acquire::Check-Valid-Until "false"'
		--customize-hook='sed -i /Check-Valid-Until/d "$1/etc/apt/apt.conf.d/99mmdebstrap"')
	run_logged root "fetching a minimal Debian $base" "$IDTS_CACHE/log/root-base" \
		mmdebstrap --variant=minbase --include=ca-certificates --skip=cleanup/apt/lists \
		"${dates[@]}" --aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
		"$base" "$dir" "$(host_mirror)" || return 1
	[ "$suite" != experimental ] || root_add_suite "$dir" experimental 'src:linux src:linux-signed-amd64' || return 1
	root_install "$dir" "fetching kernel headers and source" linux-headers-amd64 linux-source || return 1
	kernel=$(versions_kernel "$dir")
	root_pin_tools "$dir" "$kernel" || root_unpin_tools "$dir" || return 1
	root_install "$dir" "fetching the compilers of kernel $kernel" \
		"${ROOT_TOOLS[@]}" "$(versions_compiler "$dir" "$kernel")" "${ROOT_PACKAGES[@]}" || return 1
	versions_check "$dir" "$kernel" || ! kernel_is_stock
}

# root_install DIR WHAT PACKAGE...: installs packages in the root DIR.
root_install() {
	local dir=$1 what=$2
	shift 2
	run_logged root "$what" "$IDTS_CACHE/log/root-install" \
		root_exec "$dir" env DEBIAN_FRONTEND=noninteractive apt-get install --yes "$@" || return 1
	root_exec "$dir" apt-get clean
}

# root_add WHAT PACKAGE: installs a package that the root in use was made without, because few
# need it. Called with the cache locked.
root_add() {
	local root=$IDTS_SET/root what=$1 package=$2
	root_install "$root" "fetching $what" "$package" && return 0
	# The lists may name what the archive has no more.
	root_update "$root" >/dev/null 2>&1 &&
		root_install "$root" "fetching $what by new package lists" "$package"
}

# root_add_suite DIR SUITE PACKAGES: makes SUITE known to apt in DIR; PACKAGES, in apt's
# pin notation, are preferred from it.
root_add_suite() {
	local dir=$1 suite=$2 packages=$3
	printf 'deb %s %s main\n' "$(host_mirror)" "$suite" >"$dir/etc/apt/sources.list.d/$suite.list"
	[ -z "$packages" ] || printf 'Package: %s\nPin: release a=%s\nPin-Priority: 900\n' \
		"$packages" "$suite" >"$dir/etc/apt/preferences.d/$suite"
	run_logged root "reading the package list of $suite" "$IDTS_CACHE/log/root-update" root_update "$dir"
}

# root_update DIR: reads the package lists anew in the root DIR.
root_update() {
	# shellcheck disable=SC2046 # an option and its value, or nothing
	root_exec "$1" apt-get $(host_dates) update
}

# root_pin_tools DIR KERNEL: has apt in DIR choose the rustc and bindgen that built
# KERNEL, from whichever suite has them; names both sides if none does.
root_pin_tools() {
	local dir=$1 kernel=$2 tool want have
	for tool in rustc bindgen; do
		want=$(versions_wanted "$dir" "$kernel" "$tool")
		[ -n "$want" ] || { versions_check "$dir" "$kernel"; return 1; }
		if ! root_offers "$dir" "$tool" "$want" >/dev/null; then
			root_more_suites "$dir" || return 1
		fi
		have=$(root_offers "$dir" "$tool" "$want") || {
			say "kernel $kernel was built with $tool $want; Debian's suites now have $(
				root_exec "$dir" apt-cache madison "$tool" | awk '{ print $3 }' | sort -u | tr '\n' ' ')"
			return 1
		}
		printf 'Package: %s\nPin: version %s\nPin-Priority: 1001\n' \
			"$(root_pin_names "$tool")" "${have%+b*}*" >"$dir/etc/apt/preferences.d/$tool"
	done
}

# root_unpin_tools DIR: has apt in DIR choose what tools there are, if the kernel is to be built
# by them.
root_unpin_tools() {
	if kernel_is_stock; then
		say "$VERSIONS_WAY_OUT"
		return 1
	fi
	say "kernel $IDTS_KERNEL is built by the tools that there are"
	rm -f "$1"/etc/apt/preferences.d/{rustc,bindgen}
}

# root_pin_names rustc|bindgen: prints what is pinned along with the tool.
root_pin_names() {
	case $1 in
	rustc) echo src:rustc ;;
	bindgen) echo src:rust-bindgen-cli ;;
	esac
}

# root_offers DIR TOOL NUMBER: prints the version of a package TOOL whose upstream number
# is NUMBER, if apt in DIR knows one.
root_offers() {
	root_exec "$1" apt-cache madison "$2" | awk '{ print $3 }' |
		grep -E "^${3//./\\.}[-+~]" | head -n 1 | grep .
}

# root_more_suites DIR: lets apt in DIR look into the other suites of the archive too.
root_more_suites() {
	local suite
	for suite in testing sid experimental; do
		grep -qsE "^deb [^ ]* $suite " "$1"/etc/apt/sources.list{,.d/*.list} && continue
		root_add_suite "$1" "$suite" "" || return 1
		printf 'Package: *\nPin: release a=%s\nPin-Priority: 50\n' "$suite" \
			>"$1/etc/apt/preferences.d/more-$suite"
	done
}
