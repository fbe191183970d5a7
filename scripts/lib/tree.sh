# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The tree: Debian's packages of Xen, its tools and the kernel, unpacked but not set up;
# the images take their files from it. It is fetched together with the build root, from
# the same package lists, so that kernel and headers are of one version. Needs log.sh,
# root.sh, versions.sh. Source it; it defines functions and does nothing else.

# tree_fill ROOT TREE: fetches the packages by ROOT's apt and unpacks them into TREE.
tree_fill() {
	local root=$1 tree=$2 kernel
	kernel=$(versions_kernel "$root")
	mkdir -p "$tree" "$root/var/tmp/debs/partial" || return 1
	run_logged xen "fetching Xen, its tools and kernel $kernel" "$IDTS_CACHE/log/tree-fetch" \
		root_exec "$root" apt-get install --yes --download-only \
		-o Dir::State::status=/dev/null -o Dir::Cache::archives=/var/tmp/debs \
		busybox-static xen-system-amd64 "linux-binary-$kernel" "linux-modules-$kernel" || return 1
	run_logged xen "unpacking them" "$IDTS_CACHE/log/tree-unpack" \
		tree_unpack "$root/var/tmp/debs" "$tree" || return 1
	rm -rf "$root/var/tmp/debs"
}

# tree_unpack DEBS TREE: unpacks every package in DEBS into TREE. Starts with Debian's
# merged directories, as each package expects them.
tree_unpack() {
	local debs=$1 tree=$2 dir deb
	for dir in bin sbin lib lib64; do
		mkdir -p "$tree/usr/$dir" || return 1
		ln -s "usr/$dir" "$tree/$dir" || return 1
	done
	for deb in "$debs"/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$tree" || return 1
	done
}

# tree_xen TREE: prints the version of Xen in TREE, such as 4.20.
tree_xen() {
	find "$1/boot" -name 'xen-*-amd64.gz' -printf '%f\n' |
		sed -n 's/^xen-\(.*\)-amd64\.gz$/\1/p' | sort --version-sort | tail -n 1
}
