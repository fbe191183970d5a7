# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What git knows of this checkout, whoever owns it: root often builds what a user cloned. Needs
# nothing. Source it; it defines functions and does nothing else.

# checkout_git ARG...: git on the checkout.
checkout_git() { git -c safe.directory="$IDTS_TOP" -C "$IDTS_TOP" "$@"; }

# checkout_titles: every commit is titled "part: Summary", in 70 columns. Fails where git does.
checkout_titles() {
	local titles wrong
	titles=$(checkout_git log --no-merges --format='%h %s') || { echo "git cannot tell the commits"; return 1; }
	[ -n "$titles" ] || { echo "git knows no commit"; return 1; }
	wrong=$(grep -vE '^[0-9a-f]+ [a-zA-Z0-9,._/-]+: [A-Z].{0,66}$' <<<"$titles" | grep -vE '^[0-9a-f]+ Initial' || true)
	[ -z "$wrong" ] || { printf 'commits not titled "part: Summary":\n%s\n' "$wrong"; return 1; }
	wrong=$(grep -E '^[0-9a-f]+ .{71}' <<<"$titles" || true)
	[ -z "$wrong" ] || { printf 'titles of more than 70 columns:\n%s\n' "$wrong"; return 1; }
}
