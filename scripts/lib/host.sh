# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the host must be and have: root, a known distribution, memory, disk, and a few
# packages. Everything is checked before anything is changed; what is changed is recorded, and
# host_undo takes it back. Needs log.sh, cache.sh, state.sh. Source it; it defines functions and does
# nothing else.

HOST_RECORD=${HOST_RECORD:-/var/lib/idts-testbed/installed} # packages that were installed here
HOST_SOURCES=${HOST_SOURCES:-/etc/apt/sources.list.d/idts-testbed.sources}
HOST_LOCKS=(/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock)

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
	local disk=$1 id version mb path
	[ "$(id -u)" -eq 0 ] || say_missing "root rights: run it as root (chroot and mounts need them)"
	# shellcheck source=/dev/null
	id=$(. /etc/os-release && printf '%s' "${ID:-unknown}")
	# shellcheck source=/dev/null
	version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")
	case "$id $version" in
	"debian 12" | "debian 13") ;;
	*) say_missing "Debian 12 or 13: this is '$id $version'. By hand it needs mmdebstrap, QEMU $HOST_QEMU_MAJOR or newer (qemu-system-x86_64), unshare, flock" ;;
	esac
	if [ "$(id -u)" -eq 0 ] && ! unshare --mount true 2>/dev/null; then
		say_missing "the right to mount (CAP_SYS_ADMIN): a container needs it, as by --privileged"
	fi
	[ "$(uname -m)" = x86_64 ] || say_missing "an x86-64 machine: this is $(uname -m)"
	mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$mb" -ge "$HOST_MEMORY_MB" ] || say_missing "$HOST_MEMORY_MB MB of free memory: there are $mb MB"
	mb=$(host_free_mb "$IDTS_CACHE")
	[ "$mb" -ge "$disk" ] || say_missing "$disk MB of free disk for the cache: there are $mb MB (XDG_CACHE_HOME moves it)"
	mb=$(host_free_mb "$IDTS_TOP")
	[ "$mb" -ge "$HOST_WORK_MB" ] || say_missing "$HOST_WORK_MB MB of free disk for what is built in $IDTS_TOP/target: there are $mb MB"
	for path in "$IDTS_TOP" "$IDTS_CACHE"; do
		case $path in
		*[[:space:]:]*) say_missing "another place for '$path': the kernel's Makefile takes no path with blanks or colons" ;;
		esac
	done
	if [ -n "${IDTS_STATE:-}" ]; then
		path=$(state_missing)
		[ -z "$path" ] || say_missing "$path"
	fi
	if [ -n "$(host_wanted)" ]; then
		path=$(host_apt_held)
		[ -z "$path" ] || say_missing "apt: $path; wait until that has ended"
	fi
}

# host_apt_held: prints who holds one of apt's locks, or nothing. Perl is in every Debian.
host_apt_held() {
	perl -MFcntl -e '
		for my $file (@ARGV) {
			open(my $lock, "+<", $file) or next;
			my $asked = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
			fcntl($lock, F_GETLK, $asked) or next;
			my ($type, undef, undef, undef, $pid) = unpack("s s x4 q q i", $asked);
			next if $type == F_UNLCK;
			print "process $pid holds $file";
			last;
		}' -- "${HOST_LOCKS[@]}"
}

# host_disk_mb: prints the free disk that is needed with the cache as it is.
host_disk_mb() {
	if compgen -G "$IDTS_CACHE/suites/*" >/dev/null; then echo "$HOST_WORK_MB"; else echo "$HOST_DISK_MB"; fi
}

# say_missing TEXT: one line of host_missing's list.
say_missing() { printf '  - %s\n' "$1"; }

# host_free_mb DIR: prints the free space of the disk that holds, or will hold, DIR.
host_free_mb() {
	local dir=$1
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

# host_changes: prints what host_prepare will change, for people.
host_changes() {
	local wanted
	wanted=$(host_wanted)
	if [ -z "$wanted" ]; then
		echo nothing
	elif [ "$(host_codename)" = bookworm ] && [[ $wanted == *qemu* ]]; then
		echo "packages $wanted; the apt source $HOST_SOURCES"
	else
		echo "packages $wanted"
	fi
}

# host_apt ARG...: the host's apt-get, which waits a minute for one that has just begun.
host_apt() { env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=60 "$@"; }

# host_packages: prints the packages that are installed, sorted.
host_packages() {
	# shellcheck disable=SC2016 # dpkg-query's own variables
	dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | LC_ALL=C sort
}

# host_prepare: names, then installs, the packages that host_wanted finds missing; records what came.
host_prepare() {
	local wanted before
	wanted=$(host_wanted)
	[ -n "$wanted" ] || return 0
	step host "installing on this machine: $wanted (scripts/testbed clean --host takes it back)"
	run_logged host "reading apt's package lists" "$IDTS_CACHE/log/host-update" host_apt update ||
		die "apt-get update failed"
	if [ "$(host_codename)" = bookworm ] && [[ $wanted == *qemu* ]]; then
		host_add_backports
		# This one, and of what it needs only what it cannot do without.
		wanted=${wanted/qemu-system-x86/qemu-system-x86/bookworm-backports}
	fi
	before=$(host_packages)
	# shellcheck disable=SC2086 # a list of words
	run_logged host "installing $wanted" "$IDTS_CACHE/log/host-install" \
		host_apt install --yes --no-install-recommends $wanted || die "could not install: $wanted"
	host_record "$before"
}

# host_record BEFORE: adds to the record the packages that were not there before.
host_record() {
	mkdir -p "${HOST_RECORD%/*}"
	LC_ALL=C comm -13 <(echo "$1") <(host_packages) >>"$HOST_RECORD"
}

# host_add_backports: makes bookworm-backports known to apt, in a file of our own, from
# the mirror that the host already uses. Its packages are taken only when asked for.
host_add_backports() {
	step host "adding the suite bookworm-backports to apt in $HOST_SOURCES"
	cat >"$HOST_SOURCES" <<-EOF
		# Written by the IDTS testbed: a newer emulator. Remove it at will.
		Types: deb
		URIs: $(host_mirror)
		Suites: bookworm-backports
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	EOF
	run_logged host "reading the package list of bookworm-backports" "$IDTS_CACHE/log/host-backports" \
		host_apt update || die "apt-get update failed with bookworm-backports"
}

# host_undo: removes our apt source, and the packages that the record has, if nothing that it does not
# have would go with them.
host_undo() {
	local recorded here others
	if head -n 1 "$HOST_SOURCES" 2>/dev/null | grep -q '^# Written by the IDTS testbed'; then
		step host "removing $HOST_SOURCES"
		rm -f "$HOST_SOURCES"
	fi
	if [ ! -s "$HOST_RECORD" ]; then
		step host "no package is recorded as installed by the testbed; none is removed"
		return 0
	fi
	recorded=$(LC_ALL=C sort -u "$HOST_RECORD")
	here=$(LC_ALL=C comm -12 <(echo "$recorded") <(host_packages))
	if [ -n "$here" ]; then
		# shellcheck disable=SC2086 # a list of words
		others=$(host_apt remove --simulate --no-auto-remove $here | awk '$1 == "Remv" { print $2 }' |
			LC_ALL=C sort | LC_ALL=C comm -13 <(echo "$here") -)
		[ -z "$others" ] || die "these need what the testbed installed, and were not installed by it; all stay: $(tr '\n' ' ' <<<"$others")"
		step host "removing $(tr '\n' ' ' <<<"$here")"
		# shellcheck disable=SC2086 # a list of words
		run_logged host "removing them" "$IDTS_CACHE/log/host-remove" \
			host_apt remove --yes --no-auto-remove $here || die "could not remove them; $HOST_RECORD has their names"
	fi
	rm -f "$HOST_RECORD"
	rmdir --ignore-fail-on-non-empty "${HOST_RECORD%/*}"
}

# host_is_stale: true if the mirror serves an archive of some other day, as snapshots do, or as the
# host's own apt is told: its lists are out of date, and still those that are meant.
host_is_stale() {
	[[ $(host_mirror) == *snapshot* ]] ||
		[ "$(apt-config dump --format '%v%n' Acquire::Check-Valid-Until)" = false ]
}

# host_dates: prints the option by which apt takes such lists, or nothing.
host_dates() { ! host_is_stale || echo -o Acquire::Check-Valid-Until=false; }
