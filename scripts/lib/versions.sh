# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Finds the versions of kernel, rustc, bindgen and compiler, and refuses a set that does
# not fit together: the kernel's own configuration says which tools it was built with.
# Needs log.sh and root_exec. Source it; it defines functions and does nothing else.
#
# ROOT is a build root, or / for the running system itself.

# What can be done where no tools fit.
VERSIONS_WAY_OUT="without fitting tools there is: --kernel built, a small kernel that the tools at hand make from the same source"

# versions_kernel ROOT: prints the newest kernel of the plain amd64 flavour whose headers
# ROOT has, as in `uname -r`.
versions_kernel() {
	find "${1%/}/usr/src" -maxdepth 1 -name 'linux-headers-*-amd64' -printf '%f\n' |
		sed -n 's/^linux-headers-//p' | grep -Ev -- '-(rt|cloud)-amd64$' |
		sort --version-sort | tail -n 1
}

# versions_headers ROOT KERNEL: prints the directory of the headers package of KERNEL.
versions_headers() { printf '%s\n' "${1%/}/usr/src/linux-headers-$2"; }

# versions_config ROOT KERNEL NAME: prints the text value of CONFIG_NAME of KERNEL.
versions_config() {
	sed -n "s/^CONFIG_$3=\"\\(.*\\)\"\$/\\1/p" "$(versions_headers "$1" "$2")/.config"
}

# versions_wanted ROOT KERNEL rustc|bindgen: prints the bare number, such as 1.97.1, that
# KERNEL was built with.
versions_wanted() {
	versions_config "$1" "$2" "${3^^}_VERSION_TEXT" | awk '{ print $2 }'
}

# versions_compiler ROOT KERNEL: prints the command of the C compiler that built KERNEL.
versions_compiler() {
	versions_config "$1" "$2" CC_VERSION_TEXT | awk '{ print $1 }' | sed 's/^x86_64-linux-gnu-//'
}

# versions_check ROOT KERNEL: true if ROOT's tools are those that built KERNEL; else says
# what differs, both sides named.
versions_check() {
	local root=$1 kernel=$2 tool want have fine=0
	if [ -z "$(versions_config "$root" "$kernel" RUSTC_VERSION_TEXT)" ]; then
		say "kernel $kernel was built without Rust (no CONFIG_RUSTC_VERSION_TEXT): it cannot load Rust modules"
		return 1
	fi
	for tool in rustc bindgen; do
		want=$(versions_config "$root" "$kernel" "${tool^^}_VERSION_TEXT")
		have=$(root_exec "$root" "$tool" --version 2>/dev/null || echo "no $tool")
		[ "$want" = "$have" ] && continue
		say "$tool does not fit: kernel $kernel was built with '$want', here is '$have'"
		fine=1
	done
	[ "$fine" = 0 ] || [ "$root" = / ] || say "$VERSIONS_WAY_OUT"
	return "$fine"
}

# versions_have ROOT rustc|bindgen: prints the bare number of the tool that ROOT has.
versions_have() { root_exec "$1" "$2" --version | awk '{ print $2 }'; }

# versions_series KERNEL: prints the series of KERNEL, such as 7.2.
versions_series() {
	local series
	series=$(printf '%s' "$1" | cut -d. -f1,2)
	printf '%s\n' "${series%%[!0-9.]*}"
}

# versions_source ROOT KERNEL: prints the archive of the source that KERNEL was built
# from; else says which package and version is needed.
versions_source() {
	local series want have
	series=$(versions_series "$2")
	want=$(versions_package "$1" "linux-headers-$2")
	have=$(versions_package "$1" "linux-source-$series")
	if [ "$want" != "$have" ]; then
		say "kernel source and headers differ: linux-headers-$2 is '$want', linux-source-$series is '${have:-not installed}'"
		return 1
	fi
	printf '%s\n' "${1%/}/usr/src/linux-source-$series.tar.xz"
}

# versions_package ROOT PACKAGE: prints the version of an installed package, or nothing.
versions_package() {
	# shellcheck disable=SC2016 # dpkg-query's own variable
	dpkg-query --admindir="${1%/}/var/lib/dpkg" --show --showformat '${Version}' "$2" 2>/dev/null || true
}
