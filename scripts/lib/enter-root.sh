#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# enter-root.sh ROOT CMD...: runs CMD with ROOT as its file system. To be started in a
# mount namespace of its own (root.sh does), so that every mount made here ends with it.
#
# Seen inside at the same place as outside: the checkout (IDTS_TOP), the cache
# (IDTS_CACHE) and the directories listed in IDTS_BIND, separated by colons. The host's
# name resolution and certificates are used; of its environment only what is named below.
set -euo pipefail

root=$1
shift

# bind PATH: shows the directory PATH inside, at its own place.
bind() {
	mkdir -p "$root$1"
	mount --bind "$1" "$root$1"
}

# borrow FILE: shows the host's FILE in place of the root's, if the host has it.
borrow() {
	[ -e "$1" ] || return 0
	mkdir -p "$root$(dirname "$1")"
	[ -e "$root$1" ] || : >"$root$1"
	mount --bind "$(readlink -f "$1")" "$root$1"
}

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
borrow /etc/resolv.conf
borrow /etc/ssl/certs/ca-certificates.crt
bind "$IDTS_CACHE"
bind "$IDTS_TOP"
IFS=: read -r -a extra <<<"${IDTS_BIND:-}"
for dir in "${extra[@]}"; do bind "$dir"; done

keep=()
for name in TERM http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	[ -z "${!name:-}" ] || keep+=("$name=${!name}")
done
[ -d "$root$PWD" ] || cd /
exec chroot "$root" /usr/bin/env --ignore-environment --chdir="$PWD" \
	HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	CARGO_HOME="$IDTS_CACHE/cargo" CARGO_TARGET_DIR="$IDTS_TOP/target/root" \
	"${keep[@]}" "$@"
