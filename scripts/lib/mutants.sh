# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The mutants of idts-core, by cargo-mutants: each small change to the code must fail a test.
# Those that cannot are named, each with its reason, in idts-common/core/mutants.toml. Needs
# log.sh, cache.sh, root.sh and a set (set_use). Source it; it defines functions and does
# nothing else.

MUTANTS_VERSION=27.1.0 # of cargo-mutants

# mutants_fetch: installs cargo-mutants. Called with the cache locked.
mutants_fetch() { cache_tool root_cargo cargo-mutants "$MUTANTS_VERSION"; }

# mutants_groups: prints the files of the crate, and after a colon the tests that must notice what
# is changed in them: fewer than all, so that hours are enough.
mutants_groups() {
	cat <<-'END'
		control error index mem record ring role: control fuzz hostile record ring
		doorbell queues negotiation: control hostile queues spec
		event_count: shuttle
		quota usage: quota
		reassembly: reassembly
		log_limit: log_limit
		nodes policy: fuzz policy
		group: group
		spurious: spurious
		opening: opening
		registry: registry
		token_bucket: token_bucket
		busy_poll: busy_poll
		allocator: fuzz allocator
		ioctl uapi wire wire/codec wire/layout wire/message wire/name: hostile ioctl spec uapi
		sched sched/bucket sched/flow sched/limits sched/run_queue sched/types: sched
		state: spec state
	END
}

# mutants_options GROUP: prints a group's options of cargo-mutants, one a line.
mutants_options() {
	local file test
	for file in ${1%%:*}; do printf -- '--file=idts-common/core/%s.rs\n' "$file"; done
	# For each of cargo's commands: other tests need not be built.
	for test in ${1#*:}; do printf -- '--cargo-arg=--test=%s\n' "$test"; done
}

# mutants_run [GROUP...]: tries all mutants, an hour or two; fails if one survives.
mutants_run() {
	local rc=0 group groups options
	cache_locked mutants_fetch || return 1
	if [ $# -gt 0 ]; then groups=("$@"); else
		mapfile -t groups < <(mutants_groups)
		mutants_all_files || return 1
	fi
	for group in "${groups[@]}"; do
		echo "--- $group"
		mapfile -t options < <(mutants_options "$group")
		mutants_try "${options[@]}" || rc=1
	done
	return "$rc"
}

# mutants_all_files: every file of the crate is in one group.
mutants_all_files() {
	diff <(cd "$IDTS_TOP/idts-common/core" && printf '%s\n' *.rs sched/*.rs wire/*.rs | sed 's/\.rs$//' | grep -vx lib | sort) \
		<(mutants_groups | sed 's/:.*//' | tr ' ' '\n' | sort) ||
		{ echo "mutants_groups does not hold every file once"; return 1; }
}

# mutants_try OPTION...: one run of cargo-mutants.
mutants_try() {
	local rc=0
	# Each of the two jobs builds apart from the other, in its copy of the tree.
	root_run env -u CARGO_TARGET_DIR PATH="$IDTS_CACHE/tools/bin:/usr/bin:/bin" \
		CARGO_PROFILE_DEV_DEBUG=0 PROPTEST_CASES=256 cargo mutants --package idts-core \
		--config idts-common/core/mutants.toml --output target --jobs 2 \
		--minimum-test-timeout 300 --no-shuffle --colors never "$@" || rc=$?
	# A mutant that runs into the time limit has been noticed too.
	[ "$rc" -eq 0 ] || [ "$rc" -eq 3 ]
}
