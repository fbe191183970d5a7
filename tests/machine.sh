#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# On a machine that cannot be helped (another distribution, no root, too little memory or disk, a
# container without privileges, a path with a blank, an apt that is busy, a folder of others), every
# command that would fetch, install or build names what is missing, and changes nothing. Runs
# a copy of the scripts in a mount namespace of its own, where /etc/os-release and
# /proc/meminfo are false, with an empty cache, with an emulator that is too old, and with an apt that
# only tells that it ran.
set -euo pipefail
TOP=$(readlink -f "$(dirname "$0")/..")
if [ "${1:-}" != inside ]; then
	exec unshare --mount --propagation private -- bash "$0" inside
fi

COMMANDS=(demo 'testbed up' 'testbed fetch' 'testbed refresh' build kdir test bench)
WORK=$(mktemp -d)
PRETENDED=(/etc/os-release /proc/meminfo /var/lib/dpkg/lock-frontend)
failed=0 holder=
trap finish EXIT

# finish: a file that is shown in another's place cannot be removed.
# shellcheck disable=SC2329 # the trap calls it
finish() {
	[ -z "$holder" ] || kill "$holder"
	umount --quiet "${PRETENDED[@]}" "$WORK/small" || true
	rm -rf "$WORK"
}

# prepare: a checkout of nothing but scripts, a home, a cache; all can write to the latter.
prepare() {
	local name
	chmod 755 "$WORK"
	mkdir -m 755 "$WORK/top" "$WORK/bin" "$WORK/small" "$WORK/others"
	mkdir -m 777 "$WORK/home" "$WORK/cache"
	echo precious >"$WORK/others/file"
	cp -r "$TOP/scripts" "$WORK/top/"
	for name in apt apt-get dpkg mmdebstrap; do
		# shellcheck disable=SC2016 # the stub's own words
		printf '#!/bin/sh\necho "${0##*/} $*" >>"%s"\nexit 1\n' "$WORK/calls" >"$WORK/bin/$name"
	done
	printf '#!/bin/sh\necho "QEMU emulator version 7.2.0"\n' >"$WORK/bin/qemu-system-x86_64"
	chmod 755 "$WORK"/bin/*
	: >"$WORK/calls"
	chmod 666 "$WORK/calls"
}

# pretend FILE: shows standard input instead of FILE.
pretend() {
	local real
	real=$(readlink -f "$1")
	cat >"$WORK/$(basename "$1")"
	chmod 644 "$WORK/$(basename "$1")"
	mount --bind "$WORK/$(basename "$1")" "$real"
}

# snapshot: prints all files with their sizes and times.
snapshot() { find "$WORK" -printf '%p %s %m %T@\n' | sort; }

# refuses WHO WORDS [CHECKOUT [SETTING...]]: every command, run as user WHO, fails, says WORDS, and
# changes nothing. A SETTING is of setpriv (it begins with a hyphen) or of the environment.
refuses() {
	local who=$1 words=$2 top=${3:-$WORK/top} setting may=() settings=() command before said rc
	for setting in "${@:4}"; do
		case $setting in -*) may+=("$setting") ;; *) settings+=("$setting") ;; esac
	done
	for command in "${COMMANDS[@]}"; do
		before=$(snapshot)
		rc=0
		# shellcheck disable=SC2016 # the inner bash's own
		said=$(cd / && setpriv --reuid="$who" --regid="$who" --clear-groups "${may[@]}" env -i \
			PATH="$WORK/bin:$PATH" HOME="$WORK/home" XDG_CACHE_HOME="$WORK/cache" "${settings[@]}" \
			bash -c 'read -r -a words <<<"$2"; exec bash "$1/scripts/${words[0]}" "${words[@]:1}"' - \
			"$top" "$command" 2>&1 </dev/null) || rc=$?
		if [ "$rc" -ne 0 ] && [[ $said == *"$words"* ]] &&
			[[ $said == *"Nothing was changed."* ]] && [ "$before" = "$(snapshot)" ]; then
			continue
		fi
		failed=1
		printf 'scripts/%s as user %s, not as promised (exit code %s):\n%s\n' \
			"$command" "$who" "$rc" "$said"
		diff <(echo "$before") <(snapshot) || true
		cat "$WORK/calls"
	done
}

prepare
refuses 65534 'root rights'
refuses 0 'the right to mount (CAP_SYS_ADMIN)' "$WORK/top" --bounding-set=-sys_admin
mkdir "$WORK/a blank"
cp -r "$TOP/scripts" "$WORK/a blank/"
refuses 0 "another place for '$WORK/a blank'" "$WORK/a blank"
refuses 0 "another place for '$WORK/a:colon/idts-testbed'" "$WORK/top" XDG_CACHE_HOME="$WORK/a:colon"
mount -t tmpfs -o size=8M tmpfs "$WORK/small"
cp -r "$TOP/scripts" "$WORK/small/"
refuses 0 "MB of free disk for what is built in $WORK/small/target" "$WORK/small"
COMMANDS=('testbed up' 'testbed fetch' test bench) # the demonstration has a folder of its own
refuses 0 "$WORK/others is not a testbed's folder" "$WORK/top" IDTS_STATE="$WORK/others"
COMMANDS=(demo "${COMMANDS[@]}" 'testbed refresh' build kdir)
pretend /var/lib/dpkg/lock-frontend </dev/null
perl -MFcntl -e 'open(my $file, "+<", $ARGV[0]) or die; my $lock = pack("s s x4 q q i x4", F_WRLCK,
	0, 0, 0, 0); fcntl($file, F_SETLK, $lock) or die; $| = 1; print "held\n"; sleep' \
	/var/lib/dpkg/lock-frontend >"$WORK/held" &
holder=$!
until [ -s "$WORK/held" ]; do kill -0 "$holder" && sleep 0.1; done
refuses 0 "apt: process $holder holds /var/lib/dpkg/lock-frontend"
printf 'ID=plan9\nVERSION_ID=4\n' | pretend /etc/os-release
refuses 0 "Debian 12 or 13: this is 'plan9 4'"
printf 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n' | pretend /etc/os-release
printf 'MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n' | pretend /proc/meminfo
refuses 0 'MB of free memory: there are 488 MB'
exit "$failed"
