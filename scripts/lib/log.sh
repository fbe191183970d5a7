# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts say, and how: everything here goes to stderr, so that stdout stays
# free for results. Source it; it defines functions and does nothing else.

# say TEXT...: one line for people.
say() { printf '%s\n' "$*" >&2; }

# say_none TEXT LINES: true if there are no LINES; else says TEXT and then them.
say_none() {
	[ -n "$2" ] || return 0
	say "$1"
	say "$2"
	return 1
}

# step PART TEXT...: one line "[PART] TEXT": a step begins or is done.
step() {
	local part=$1
	shift
	say "$(printf '[%s] %s' "$part" "$*")"
}

# die TEXT...: say it and end with 125, the status of the testbed's own failures.
die() {
	say "$(basename "$0"): $*"
	exit 125
}

# run_logged PART WHAT LOG CMD...: runs CMD with its output in the file LOG, showing that
# time passes: a running clock on a terminal, else a line now and then. A failure shows
# the log's end and returns CMD's status.
run_logged() {
	local part=$1 what=$2 log=$3 start=$SECONDS rc=0 pid=
	shift 3
	mkdir -p "$(dirname "$log")"
	[ -t 2 ] || step "$part" "$what ..."
	# shellcheck disable=SC2154 # that of this function
	trap '[ -z "$pid" ] || { kill -- "-$pid" 2>/dev/null; wait "$pid"; }; exit 130' INT TERM HUP
	set -m # a process group of its own, so that an interrupt can end all of it
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	_log_clock "$part" "$what" "$start" "$pid"
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	[ ! -t 2 ] || printf '\r\033[K' >&2
	if [ "$rc" -ne 0 ]; then
		step "$part" "$what: failed after $((SECONDS - start)) s; the end of $log:"
		tail -n 25 "$log" | sed 's/^/    /' >&2
		return "$rc"
	fi
	step "$part" "$what: done in $((SECONDS - start)) s"
}

# _log_clock PART WHAT START PID: shows the time passed until the process PID has ended.
_log_clock() {
	local part=$1 what=$2 start=$3 pid=$4 shown=0 now
	while kill -0 "$pid" 2>/dev/null; do
		now=$((SECONDS - start))
		if [ -t 2 ]; then
			printf '\r\033[K[%s] %s ... %d s' "$part" "$what" "$now" >&2
		elif [ $((now - shown)) -ge 30 ]; then
			shown=$now
			step "$part" "$what ... $now s"
		fi
		sleep 0.2
	done
}
