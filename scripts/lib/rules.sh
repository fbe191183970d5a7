# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Takes the checks of PROTOCOL.md's violations out, one at a time, in a copy of the checkout, and
# shows that the tests of idts-core notice. tests/rules.txt is the table. After log, checkout, cache, root
# and set.

# The tests of the crate that are about what a peer sends.
RULES_TESTS=(
	--test ring --test record --test allocator --test spec --test hostile
	--test opening --test reassembly
)

# rules_each COMMAND: calls COMMAND NAME FILE FROM TO for each rule of the table.
rules_each() {
	local line name='' file='' from=''
	while IFS= read -r line; do
		case $line in
		'#'* | '') ;;
		'- '*) from=${line#- } ;;
		'+ '*) "$1" "$name" "$file" "$from" "${line#+ }" || return ;;
		*) read -r name file <<<"$line" ;;
		esac
	done <"$IDTS_TOP/tests/rules.txt"
}

# rules_names: prints the names of the rules that have an edit.
rules_names() { sed -n 's/^\([a-z][a-z-]*\) .*/\1/p' "$IDTS_TOP/tests/rules.txt"; }

# rules_document: prints the names of the rules in PROTOCOL.md.
rules_document() {
	sed -n '/^### 9.1 /,/^### 9.2 /s/^| \([a-z-]*\) |.*/\1/p' "$IDTS_TOP/idts-common/PROTOCOL.md" |
		grep -vx name
}

# rules_edit FILE FROM TO: replaces what must stand in FILE exactly once.
rules_edit() {
	local text rest
	text=$(cat "$1" && echo .)
	rest=${text#*"$2"}
	[ "$rest" != "$text" ] || { echo "$1 does not hold: $2"; return 1; }
	[ "${rest#*"$2"}" = "$rest" ] || { echo "$1 holds more than once: $2"; return 1; }
	text=${text%%"$2"*}$3$rest
	printf '%s' "${text%.}" >"$1"
}

# rules_copy DIR: a copy of what git knows of the checkout, as it is now.
rules_copy() {
	rm -rf "$1" && mkdir -p "$1" &&
		checkout_git ls-files -z | (cd "$IDTS_TOP" && xargs -0 cp --parents -t "$1")
}

# rules_one NAME FILE FROM TO: the crate's tests must fail without this check.
rules_one() {
	local dir=$IDTS_TOP/target/rules/$1
	rules_copy "$dir" && rules_edit "$dir/$2" "$3" "$4" || return 1
	# What does not compile would notice nothing.
	rules_cargo "$dir" --no-run || { echo "$1: without the check nothing compiles"; return 1; }
	if rules_cargo "$dir"; then
		echo "$1: nobody notices that its check is gone"
		return 1
	fi
	echo "$1: noticed"
	rm -rf "$dir"
}

# rules_cargo DIR ARG...: the tests of the crate in DIR; all copies share what is built, and are
# newer than what was built before. Without a check a test may go on for ever: that is noticed too.
rules_cargo() {
	root_run env CARGO_TARGET_DIR="$IDTS_TOP/target/rules-built" timeout 1800 \
		cargo test --quiet --manifest-path "$1/Cargo.toml" -p idts-core "${RULES_TESTS[@]}" "${@:2}" \
		>"$IDTS_TOP/target/rules/log" 2>&1 </dev/null
}

# rules_stands NAME FILE FROM TO: the check stands in its file once, so that it can be taken out.
rules_stands() {
	local copy=$IDTS_TOP/target/rules/stands
	cp "$IDTS_TOP/$2" "$copy" && rules_edit "$copy" "$3" "$4"
}

# rules_table: every rule of the document has an edit, which fits the code as it is.
rules_table() {
	mkdir -p "$IDTS_TOP/target/rules"
	diff <(rules_document | sort) <(rules_names | sort) || {
		echo "tests/rules.txt and PROTOCOL.md do not have the same rules"
		return 1
	}
	rules_each rules_stands
}

# rules_run: every rule of the document has an edit, and is noticed when it is gone.
rules_run() { rules_table && rules_each rules_one; }
