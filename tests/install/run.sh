#!/usr/bin/env bash
# Installs the build into a folder of its own, builds the project beside this script against it, and
# trains its model on one rank and under mpirun on three meshes: the losses agree and are small.
#   run.sh BUILD_FOLDER
set -euo pipefail
source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1
work=$build/install_test
rm -rf "$work/prefix"

cmake --install "$build" --prefix "$work/prefix" >"$work.log" 2>&1 || { cat "$work.log" >&2; exit 1; }
cmake -S "$source_folder" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="-Wall -Wextra -Wno-missing-field-initializers -Werror"
ninja -C "$work/build"
"$work/prefix/bin/tessera" --version

program=$work/build/perceptron
expected=$("$program")
echo "1 rank: loss $expected"
awk -v loss="$expected" 'BEGIN { exit !(loss > 0 && loss < 0.01) }' ||
  { echo "FAILED: the model did not learn" >&2; exit 1; }
for mesh in "2 1" "2 2" "4 2"; do
  read -r ranks model <<<"$mesh"
  loss=$(mpirun -np "$ranks" "$program" "$model")
  echo "$ranks ranks, model=$model: loss $loss"
  awk -v a="$loss" -v b="$expected" 'BEGIN { d = a - b; exit !(d < 2e-6 && d > -2e-6) }' ||
    { echo "FAILED: the loss differs from that of one rank" >&2; exit 1; }
done
