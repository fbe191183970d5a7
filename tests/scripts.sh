#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts do where no test on Xen looks: that they end what they started, remove what is theirs
# and nothing else, and fail where a tool that they ask fails. Runs their functions and a copy of them, in
# a folder of its own, with an apt and a dpkg that only tell that they ran.
set -euo pipefail
TOP=$(readlink -f "$(dirname "$0")/..")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
failed=0

# wrong TEXT: a promise is broken.
wrong() {
	failed=1
	printf '%s\n' "$1"
}

# with PART... -- TEXT: runs TEXT in a bash that knows these parts, with a checkout and a cache below WORK.
with() {
	local parts=() part
	while [ "$1" != -- ]; do parts+=("$1") && shift; done
	IDTS_TOP=${CHECKOUT:-$WORK/top} IDTS_CACHE=$WORK/cache PATH=$WORK/bin:$PATH bash -c '
		set -euo pipefail
		for part in $1; do . "$2/scripts/lib/$part.sh"; done
		eval "$3"' "$0" "${parts[*]}" "$TOP" "$2"
}

# names DIR: prints what is there.
names() { find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' '; }

# A terminal that is closed ends what runs.
hang_up() {
	local pid
	# shellcheck disable=SC2016 # the inner bash's own
	with log -- 'echo $$ >"$IDTS_CACHE/self"
		run_logged part what "$IDTS_CACHE/log/part" bash -c "echo \$\$ >$IDTS_CACHE/pid; exec sleep 600"' 2>/dev/null &
	until [ -s "$WORK/cache/pid" ]; do sleep 0.1; done
	pid=$(cat "$WORK/cache/pid")
	kill -HUP "$(cat "$WORK/cache/self")"
	wait $! 2>/dev/null || true
	! kill -0 "$pid" 2>/dev/null || { wrong "SIGHUP leaves what runs alone"; kill "$pid"; }
}

# The commits' titles are looked at, or the test fails.
titles() {
	local repo=$WORK/repo
	git init -q "$repo"
	CHECKOUT=$repo with checkout -- checkout_titles >/dev/null 2>&1 && wrong "no commit, and the titles pass"
	commit() { git -C "$repo" -c user.name=a -c user.email=a@b -c commit.gpgsign=false commit -q --allow-empty -m "$1"; }
	commit 'part: Summary'
	CHECKOUT=$repo with checkout -- checkout_titles >/dev/null || wrong "good titles fail"
	chown -R 65534 "$repo"
	CHECKOUT=$repo with checkout -- checkout_titles >/dev/null || wrong "of a user's checkout root cannot tell the titles"
	chown -R 0 "$repo"
	commit 'no title'
	CHECKOUT=$repo with checkout -- checkout_titles >/dev/null && wrong "a wrong title passes"
	CHECKOUT=$WORK/top with checkout -- checkout_titles >/dev/null 2>&1 && wrong "without git the titles pass"
	return 0
}

# `clean` removes all that the scripts make in target/, and nothing else; a folder of others stays.
cleans() {
	local name made
	# shellcheck disable=SC2016 # a pattern
	made=$(grep -rhoE '(\$IDTS_TOP|TOP\)?|^|[ "=/])/?target/[a-z][a-z0-9.-]*[a-z0-9]' "$TOP/scripts" "$TOP/tests/src" "$TOP/tests/tests" |
		sed 's|.*target/||' | sort -u | grep -vxE 'debug|release|kdir-.*')
	mkdir -p "$WORK/top/target/debug" "$WORK/others"
	for name in $made; do mkdir -p "$WORK/top/target/$name"; done
	touch "$WORK/others/file"
	! IDTS_STATE=$WORK/others bash "$WORK/top/scripts/testbed" clean >/dev/null 2>&1 || wrong "clean removes what it does not know"
	[ -e "$WORK/others/file" ] || wrong "clean removes a folder of others"
	bash "$WORK/top/scripts/testbed" clean || wrong "clean fails"
	[ "$(names "$WORK/top/target")" = 'debug ' ] || wrong "clean leaves or takes: $(names "$WORK/top/target")"
	! bash "$WORK/top/scripts/testbed" clean --all >/dev/null 2>&1 || wrong "clean takes any option"
}

# `refresh` drops the sets that no suite has, but those in use.
old_sets() {
	local set
	for set in old used new; do
		mkdir -p "$WORK/cache/sets/$set"
		: >"$WORK/cache/sets/$set/versions"
	done
	mkdir -p "$WORK/cache/suites"
	ln -s ../sets/new "$WORK/cache/suites/sid"
	# shellcheck disable=SC2016 # the inner bash's own
	with log cache set -- '(IDTS_SET=$IDTS_CACHE/sets/used && set_hold && set_drop_old)' 2>/dev/null
	[ "$(names "$WORK/cache/sets")" = 'new used ' ] || wrong "refresh leaves $(names "$WORK/cache/sets")"
}

# What was installed is recorded, and what the record has is removed, unless others need it.
undo() {
	local record=$WORK/record sources=$WORK/idts.sources said
	export HOST_RECORD=$record HOST_SOURCES=$sources
	# shellcheck disable=SC2016 # the stub's own
	printf '#!/bin/sh\nfor name in $(cat "%s"); do echo "ii  $name"; done\n' "$WORK/packages" >"$WORK/bin/dpkg-query"
	# shellcheck disable=SC2016 # the stub's own
	printf '#!/bin/sh\necho "$*" >>"%s"\ncase "$*" in *--simulate*) for name in %s; do echo "Remv $name"; done ;; esac\n' \
		"$WORK/calls" '$(cat '"$WORK"'/goes)' >"$WORK/bin/apt-get"
	chmod 755 "$WORK/bin"/*
	echo '# Written by the IDTS testbed: a newer emulator.' >"$sources"
	printf '%s\n' bash own seabios >"$WORK/packages"
	# shellcheck disable=SC2016 # the inner bash's own
	with log cache state host -- 'host_record "$(printf "%s\n" bash own)"'
	[ "$(cat "$record")" = seabios ] || wrong "recorded: $(cat "$record")"
	echo 'seabios own' >"$WORK/goes"
	! with log cache state host -- host_undo 2>"$WORK/said" || wrong "what others need is removed"
	said=$(cat "$WORK/said")
	[[ $said == *'own'* ]] || wrong "who needs it is not told: $said"
	! grep -v simulate "$WORK/calls" | grep -q remove || wrong "removed all the same: $(cat "$WORK/calls")"
	[ ! -e "$sources" ] || wrong "the apt source stays"
	echo 'seabios' >"$WORK/goes"
	echo 'Types: deb' >"$sources"
	with log cache state host -- host_undo 2>/dev/null || wrong "what is recorded is not removed"
	grep -q 'remove --yes --no-auto-remove seabios$' "$WORK/calls" || wrong "removed otherwise: $(cat "$WORK/calls")"
	[ -e "$sources" ] || wrong "an apt source of others is removed"
	: >"$WORK/calls"
	with log cache state host -- host_undo 2>/dev/null || wrong "without a record it fails"
	[ ! -s "$WORK/calls" ] || wrong "without a record something is removed"
}

# A step that fails ends what is filled, also where errexit is off.
fills() {
	local root=$WORK/root
	mkdir -p "$root/usr/src/linux-headers-k"
	echo CONFIG >"$root/usr/src/linux-headers-k/.config"
	! with log kdir versions -- "kdir_borrow '$root' k '$WORK/nowhere' .config" 2>/dev/null || wrong "a copy that fails is passed over"
	mkdir -p "$WORK/full"
	: >"$WORK/full/usr"
	! with log tree -- "tree_unpack '$WORK' '$WORK/full' || exit 1" 2>/dev/null || wrong "a folder that is not made is passed over"
}

# A program from Rust's registry is had in the version that is named, and in no other.
tools() {
	mkdir -p "$WORK/cache/tools"
	printf '[v1]\n"cargo-x 1.2.3 (registry)" = ["cargo-x"]\n' >"$WORK/cache/tools/.crates.toml"
	[ -z "$(with log cache -- 'cache_tool echo cargo-x 1.2.3' 2>&1)" ] || wrong "what is there is installed again"
	[[ $(with log cache -- 'cache_tool echo cargo-x 1.2.4' 2>&1) == *'--version 1.2.4 cargo-x' ]] || wrong "another version is taken"
}

mkdir -p "$WORK/top" "$WORK/bin" "$WORK/cache"
cp -r "$TOP/scripts" "$WORK/top/"
hang_up
titles
cleans
old_sets
undo
fills
tools
exit "$failed"
