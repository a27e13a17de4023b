#!/usr/bin/env bash
# launch/setup on machines that lack things, played by a PATH of our own: what it installs, what it
# says where it may not install, and that it is quick where nothing is missing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
expect_contains() { grep -qF -- "$2" "$1" || { cat "$1" >&2; fail "no '$2' in the output"; }; }

# A bin folder with a few real tools and the pretended ones.
new_machine() {
  rm -rf "${work:?}/bin" && mkdir -p "$work/bin"
  local tool
  for tool in bash env sed true c++ cmake; do ln -s "$(type -P "$tool")" "$work/bin/$tool"; done
}
pretend() { printf '#!%s\n%s\n' "$(command -v bash)" "$2" >"$work/bin/$1"; chmod +x "$work/bin/$1"; }
run_setup() {
  status=0
  env -i PATH="$work/bin" "$(command -v bash)" "$root/launch/setup" "$@" >"$work/out" 2>&1 || status=$?
}

# 1. Neither root nor sudo: the exact list and exit code 2.
new_machine
pretend id 'echo 1000'
pretend apt-get 'echo "apt-get was called" >&2; exit 1'
run_setup --run
[ "$status" -eq 2 ] || { cat "$work/out" >&2; fail "exit code $status instead of 2"; }
expect_contains "$work/out" "not root and 'sudo -n' is refused"
expect_contains "$work/out" "apt-get install -y ninja-build libopenmpi-dev openmpi-bin protobuf-compiler"
! grep -q "apt-get was called" "$work/out" || fail "apt-get was called"

# 2. No apt-get at all: the same list, another reason.
new_machine
pretend id 'echo 0'
run_setup --run
[ "$status" -eq 2 ] || fail "exit code $status instead of 2"
expect_contains "$work/out" "there is no apt-get here"

# 3. As root: update, then one install of just what is missing, with no questions asked.
new_machine
pretend id 'echo 0'
# shellcheck disable=SC2016
pretend apt-get 'echo "$DEBIAN_FRONTEND $*" >>"'"$work"'/calls"'
run_setup --test
[ "$status" -eq 0 ] || { cat "$work/out" >&2; fail "exit code $status"; }
[ "$(wc -l <"$work/calls")" -eq 2 ] || fail "apt-get was not called twice"
head -1 "$work/calls" | grep -q '^noninteractive update' || fail "no update first"
tail -1 "$work/calls" | grep -q ' install -y .* ninja-build .* git ccache$' || fail "wrong list"
! tail -1 "$work/calls" | grep -qw cmake || fail "installs what is there"

# 4. With sudo instead of root.
new_machine
pretend id 'echo 1000'
pretend apt-get 'echo "$*" >>"'"$work"'/sudo_calls"'
pretend sudo 'shift; exec "$@"'
run_setup --run
[ "$status" -eq 0 ] || { cat "$work/out" >&2; fail "exit code $status"; }
[ "$(wc -l <"$work/sudo_calls")" -eq 2 ] || fail "sudo apt-get was not called twice"

# 5. apt-get fails: exit code 1, and what is still needed.
new_machine
pretend id 'echo 0'
pretend apt-get 'echo "E: no network" >&2; exit 100'
run_setup --run
[ "$status" -eq 1 ] || fail "exit code $status instead of 1"
expect_contains "$work/out" "Still needed: ninja-build"

# 6. A wrong argument.
run_setup --bogus
[ "$status" -eq 2 ] || fail "exit code $status instead of 2"
expect_contains "$work/out" "unknown argument '--bogus'"

# 7. Headers of a module (CPATH) or a prefix count as there.
mkdir -p "$work/prefix/include/gtest"
touch "$work/prefix/include/gtest/gtest.h"
CMAKE_PREFIX_PATH=$work/prefix "$root/launch/setup" --test --list >"$work/out"
! grep -q libgtest-dev "$work/out" || fail "CMAKE_PREFIX_PATH is ignored"

# 8. Nothing missing on this machine, which runs the tests: silent and quick. Its processor time is
# what counts: other programs may have the cores.
TIMEFORMAT='%U %S'
seconds=$({ time "$root/launch/setup" --test >"$work/out" 2>&1; } 2>&1)
[ ! -s "$work/out" ] || fail "it is not silent"
awk -v words="$seconds" 'BEGIN { split(words, part); exit !(part[1] + part[2] < 2) }' ||
  fail "it takes $seconds s of processor time, more than 2"
echo "setup: all cases passed"
