#!/usr/bin/env bash
# What launch/quickstart and tests/run say to wrong use. The whole quickstart is too long for here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

expect() {  # expect CODE TEXT command...
  local code=$1 text=$2 output status=0
  shift 2
  output=$("$@" 2>&1) || status=$?
  if [ "$status" -ne "$code" ] || [[ $output != *"$text"* ]]; then
    echo "FAILED: $* gave $status: $output" >&2
    exit 1
  fi
}

expect 2 "--text needs the path" "$root/launch/quickstart" --text
expect 2 "/nowhere.txt does not exist or cannot be read" "$root/launch/quickstart" --text /nowhere.txt
expect 0 "your own UTF-8 file or folder" "$root/launch/quickstart" --help
expect 2 "there is no folder tests/nowhere" "$root/tests/run" nowhere
expect 2 "unknown argument '--bogus'" "$root/tests/run" --bogus
expect 0 "ten slowest" "$root/tests/run" --help
echo "quickstart: all cases passed"
