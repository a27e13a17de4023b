#!/usr/bin/env bash
# Training steps of a real JAX, exported as HLO text with shardings on a 2 x 2 mesh: ten steps of each,
# fed back, give what JAX gives, on four threads and on four ranks of mpirun.
#
#   tests/scripts/hlo_jax_test.sh [BUILD_FOLDER [--functions]]
#
# With --functions instead: each of some 160 functions of jax.numpy and jax.lax, with random shardings.
#
# JAX comes from PyPI into a virtual environment in the build folder, or is that of the Python that
# TESSERA_TEST_PYTHON names. Without JAX, or without the program, the test is skipped with the reason
# and exit code 77. What is made is kept: run again, it takes seconds.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "${1:-$root/build}" 2>/dev/null && pwd) || { echo "SKIPPED: there is no build folder ${1:-$root/build}"; exit 77; }
tessera=$build/tessera
work=$build/hlo_jax
steps=10
install_seconds=600
export PYTHONDONTWRITEBYTECODE=1

fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "SKIPPED: $*"; exit 77; }

[ -x "$tessera" ] || skip "$tessera is not built"
mkdir -p "$work"

# 1. A Python with JAX. The file `complete` is written last, so that half an environment is made anew.
python=${TESSERA_TEST_PYTHON:-$work/venv/bin/python}
if [ -z "${TESSERA_TEST_PYTHON:-}" ] && [ ! -f "$work/venv/complete" ]; then
  rm -rf "$work/venv"
  python3 -m venv "$work/venv" >"$work/install.log" 2>&1 ||
    skip "python3 -m venv fails ($(tail -1 "$work/install.log"))"
  timeout "$install_seconds" "$work/venv/bin/pip" install --quiet 'jax[cpu]' >>"$work/install.log" 2>&1 ||
    skip "pip install jax[cpu] fails or takes more than $install_seconds s ($(tail -1 "$work/install.log"))"
  touch "$work/venv/complete"
fi
"$python" -c 'import jax' 2>"$work/install.log" || skip "$python has no JAX ($(tail -1 "$work/install.log"))"

if [ "${2:-}" = --functions ]; then
  exec "$python" "$root/tests/hlo/jax/functions.py" "$tessera" "$work/functions"
fi

# 2. Programs, inputs and JAX's results; made again where the scripts or JAX change.
state=$("$python" -c 'import jax; print("jax", jax.__version__)'; cksum <"$root/tests/hlo/jax/export.py"
        cksum <"$root/tests/hlo/jax/train_steps.py")
if [ ! -f "$work/state" ] || [ "$(cat "$work/state")" != "$state" ]; then
  rm -rf "$work/expected"
  "$python" "$root/tests/hlo/jax/export.py" "$work/expected" --steps "$steps"
  echo "$state" >"$work/state"
fi

# 3. The same with Tessera.
compare() {  # compare NAME WHERE
  local verdict
  verdict=$("$python" "$root/tests/hlo/jax/compare.py" "$work/expected/$1" "$work/$2/$1" --tolerance 1e-4) ||
    fail "$1 on $2 differs from JAX: $verdict"
  echo "$1 on $2: $verdict"
}
run_steps() {  # run_steps NAME OUTPUT_FOLDER [launcher...]
  local program=$work/expected/$1 out=$2
  shift 2
  rm -rf "$out"
  "$@" "$tessera" hlo run "$program/step.hlo" --steps "$steps" --carry --output-dir "$out" --input "$program"
}

for program in "$work"/expected/*/; do
  name=$(basename "$program")
  run_steps "$name" "$work/threads/$name" env >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "$name does not run"; }
  compare "$name" threads
  "$tessera" hlo check "$program/step.hlo" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "check of $name"; }
done

if command -v mpirun >/dev/null; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
  for name in dense_scanned experts; do
    run_steps "$name" "$work/ranks/$name" mpirun -np 4 >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "$name under mpirun"; }
    compare "$name" ranks
  done
  status=0
  run_steps dense "$work/ranks/dense" mpirun -np 2 >"$work/log" 2>&1 || status=$?
  if [ "$status" -ne 2 ] || ! grep -qF "for 4 devices, which 2 devices are no multiple of" "$work/log"; then
    cat "$work/log" >&2
    fail "two ranks of four are not refused clearly"
  fi
fi
echo "hlo_jax: all programs give what JAX gives"
