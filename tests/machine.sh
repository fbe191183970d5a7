#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# On a machine that cannot be helped (another distribution, no root, too little memory), every
# command that would fetch, install or build names what is missing, and changes nothing. Runs
# a copy of the scripts in a mount namespace of its own, where /etc/os-release and
# /proc/meminfo are false, with an empty cache, and with an apt that only tells that it ran.
set -euo pipefail
TOP=$(readlink -f "$(dirname "$0")/..")
if [ "${1:-}" != inside ]; then
	exec unshare --mount --propagation private -- bash "$0" inside
fi

COMMANDS=(demo 'testbed up' 'testbed fetch' 'testbed refresh' build kdir test bench)
WORK=$(mktemp -d)
failed=0
trap finish EXIT

# finish: a file that is shown in another's place cannot be removed.
# shellcheck disable=SC2329 # the trap calls it
finish() {
	umount --quiet /etc/os-release /proc/meminfo || true
	rm -rf "$WORK"
}

# prepare: a checkout of nothing but scripts, a home, a cache; all can write to the latter.
prepare() {
	local name
	chmod 755 "$WORK"
	mkdir -m 755 "$WORK/top" "$WORK/bin"
	mkdir -m 777 "$WORK/home" "$WORK/cache"
	cp -r "$TOP/scripts" "$WORK/top/"
	for name in apt apt-get dpkg mmdebstrap; do
		# shellcheck disable=SC2016 # the stub's own words
		printf '#!/bin/sh\necho "${0##*/} $*" >>"%s"\nexit 1\n' "$WORK/calls" >"$WORK/bin/$name"
	done
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
snapshot() { find "$WORK" -printf '%p %s %T@\n' | sort; }

# refuses WHO WORDS: every command, run as user WHO, fails, says WORDS, and changes nothing.
refuses() {
	local who=$1 words=$2 command before said rc
	for command in "${COMMANDS[@]}"; do
		before=$(snapshot)
		rc=0
		# shellcheck disable=SC2086 # a command and its argument
		said=$(cd / && setpriv --reuid="$who" --regid="$who" --clear-groups env -i \
			PATH="$WORK/bin:$PATH" HOME="$WORK/home" XDG_CACHE_HOME="$WORK/cache" \
			bash "$WORK"/top/scripts/$command 2>&1 </dev/null) || rc=$?
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
printf 'ID=plan9\nVERSION_ID=4\n' | pretend /etc/os-release
refuses 0 "Debian 12 or 13: this is 'plan9 4'"
printf 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n' | pretend /etc/os-release
printf 'MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n' | pretend /proc/meminfo
refuses 0 'MB of free memory: there are 488 MB'
exit "$failed"
