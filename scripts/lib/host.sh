# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the host must be and have: root, a known distribution, memory, disk, and a few
# packages. Everything is checked before anything is changed. Needs log.sh and cache.sh.
# Source it; it defines functions and does nothing else.

HOST_MEMORY_MB=4500 # the emulator's 3 GB, and a compiler beside it
HOST_DISK_MB=10000  # build root, kernel source, images, what cargo makes
HOST_WORK_MB=2000   # the same with all that is cached
HOST_QEMU_MAJOR=10  # the oldest emulator that this was run with

# host_mirror: prints the Debian mirror that the host's own apt uses.
host_mirror() {
	local uri
	# shellcheck disable=SC2016 # apt's own variables
	uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(CODENAME)' 'Created-By: Packages' |
		awk -v c="$(host_codename)" '$2 == "main" && $3 == c { print $1; exit }')
	[ -n "$uri" ] || die "apt knows no mirror of Debian '$(host_codename)' main; add one to its sources"
	printf '%s\n' "${uri%/}"
}

# host_codename: prints the distribution's code name, as in /etc/os-release.
host_codename() { (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}"); }

# host_missing DISK_MB: prints one line for each thing that this host cannot be given by
# us: nothing if all is well. Changes nothing.
host_missing() {
	local disk=$1 id version mb
	[ "$(id -u)" -eq 0 ] || say_missing "root rights: run it as root (chroot and mounts need them)"
	# shellcheck source=/dev/null
	id=$(. /etc/os-release && printf '%s' "${ID:-unknown}")
	# shellcheck source=/dev/null
	version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")
	case "$id $version" in
	"debian 12" | "debian 13") ;;
	*) say_missing "Debian 12 or 13: this is '$id $version'. By hand it needs mmdebstrap, QEMU $HOST_QEMU_MAJOR or newer (qemu-system-x86_64), unshare, flock" ;;
	esac
	[ "$(uname -m)" = x86_64 ] || say_missing "an x86-64 machine: this is $(uname -m)"
	mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$mb" -ge "$HOST_MEMORY_MB" ] || say_missing "$HOST_MEMORY_MB MB of free memory: there are $mb MB"
	mb=$(host_free_mb)
	[ "$mb" -ge "$disk" ] || say_missing "$disk MB of free disk for the cache: there are $mb MB (XDG_CACHE_HOME moves it)"
}

# host_disk_mb: prints the free disk that is needed with the cache as it is.
host_disk_mb() {
	if compgen -G "$IDTS_CACHE/suites/*" >/dev/null; then echo "$HOST_WORK_MB"; else echo "$HOST_DISK_MB"; fi
}

# say_missing TEXT: one line of host_missing's list.
say_missing() { printf '  - %s\n' "$1"; }

# host_free_mb: prints the free space of the disk that holds, or will hold, the cache.
host_free_mb() {
	local dir=${IDTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}
	while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
	df --output=avail --block-size=1M "$dir" | tail -n 1 | tr -d ' '
}

# host_check [DISK_MB]: ends with a list of what is missing, or returns. Changes nothing.
# DISK_MB is the free disk to ask for, by default what filling the cache takes if there is
# nothing in it.
host_check() {
	local missing
	missing=$(host_missing "${1:-$(host_disk_mb)}")
	[ -z "$missing" ] || die "this machine lacks:"$'\n'"$missing"$'\n'"Nothing was changed."
}

# host_wanted: prints the packages that are needed and not here, on one line.
host_wanted() {
	local wanted=() major
	command -v mmdebstrap >/dev/null || wanted+=(mmdebstrap)
	major=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p')
	[ "${major:-0}" -ge "$HOST_QEMU_MAJOR" ] || wanted+=(qemu-system-x86)
	[ -e /etc/ssl/certs/ca-certificates.crt ] || wanted+=(ca-certificates)
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || wanted+=(debian-archive-keyring)
	printf '%s\n' "${wanted[*]}"
}

# host_prepare: names, then installs, the packages that host_wanted finds missing.
host_prepare() {
	local wanted suite=()
	wanted=$(host_wanted)
	[ -n "$wanted" ] || return 0
	step host "installing on this machine: $wanted"
	run_logged host "reading apt's package lists" "$IDTS_CACHE/log/host-update" apt-get update ||
		die "apt-get update failed"
	if [ "$(host_codename)" = bookworm ] && [[ $wanted == *qemu* ]]; then
		host_add_backports
		suite=(--target-release bookworm-backports)
	fi
	# shellcheck disable=SC2086 # a list of words
	run_logged host "installing $wanted" "$IDTS_CACHE/log/host-install" \
		env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
		"${suite[@]}" $wanted || die "could not install: $wanted"
}

# host_add_backports: makes bookworm-backports known to apt, in a file of our own, from
# the mirror that the host already uses. Its packages are taken only when asked for.
host_add_backports() {
	local file=/etc/apt/sources.list.d/idts-testbed.sources
	step host "adding the suite bookworm-backports to apt in $file"
	cat >"$file" <<-EOF
		# Written by the IDTS testbed: a newer emulator. Remove it at will.
		Types: deb
		URIs: $(host_mirror)
		Suites: bookworm-backports
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	EOF
	run_logged host "reading the package list of bookworm-backports" "$IDTS_CACHE/log/host-backports" \
		apt-get update || die "apt-get update failed with bookworm-backports"
}
