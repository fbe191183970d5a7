# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The folder of a testbed, IDTS_STATE. A file in it says that it is one: nothing is made in, changed
# about, or removed with a folder of others (src/place.rs has the same rule). Needs log.sh. Source it;
# it defines functions and does nothing else.

STATE_MARK=.idts-testbed

# state_is_ours: true if the folder bears the mark, or is a part of this checkout's target/.
state_is_ours() {
	[ -e "$IDTS_STATE/$STATE_MARK" ] || [[ $(realpath -m -- "$IDTS_STATE") == "$IDTS_TOP"/target/?* ]]
}

# state_missing: prints why IDTS_STATE cannot be used, or nothing. Changes nothing.
state_missing() {
	case $IDTS_STATE in
	*[[:space:]:]*) echo "another place for IDTS_STATE: QEMU takes no path with blanks or colons, as '$IDTS_STATE'" ;;
	esac
	if state_is_ours || [ ! -e "$IDTS_STATE" ]; then return 0; fi
	[ -d "$IDTS_STATE" ] && [ -z "$(find "$IDTS_STATE" -mindepth 1 -print -quit)" ] &&
		[ -z "$(find "$IDTS_STATE" -maxdepth 0 -perm /022)" ] ||
		echo "another place for IDTS_STATE: $IDTS_STATE is not a testbed's folder, and not an empty one of this user alone"
}

# state_make: makes the folder; call it after state_missing said nothing.
state_make() {
	[ -d "$IDTS_STATE" ] || { mkdir -p "$IDTS_STATE" && chmod 700 "$IDTS_STATE"; }
	: >>"$IDTS_STATE/$STATE_MARK"
}

# state_drop: removes the folder with all that is in it, if it is a testbed's.
state_drop() {
	[ -e "$IDTS_STATE" ] || return 0
	state_is_ours || die "IDTS_STATE: $IDTS_STATE is not a testbed's folder; it stays"
	rm -rf --one-file-system -- "$IDTS_STATE"
}
