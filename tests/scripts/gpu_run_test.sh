#!/usr/bin/env bash
# tests/gpu/run on the software GPU, and where there is no device.
set -euo pipefail
build=$1
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
run=$tree/tests/gpu/run
[ -x "$build/bench/bench_gpu" ] || exit 77

fail() { printf 'gpu_run: %s\n%s\n' "$1" "${out:-}" >&2; exit 1; }
has() { grep -qE -- "$1" <<<"$out" || fail "there is no line like $1"; }

out=$("$run" --build "$build" --soft --filter 'CudaNormTest.Rows' --sanitize 2>&1) || fail "it fails"
has '^date +20'
has '^driver +the software GPU'
has '^ +Tessera .*, commit '
has '^suite +passed +failed +skipped +seconds'
has '^CudaNormTest +[1-9][0-9]* +0 +0'
has '^all +[1-9][0-9]* +0 +0'
has '^sanitize: skipped'
has '^layer_norm, tiny GPT +[0-9.]+ us +[0-9]+% of floor +cuda\.'
! grep -q 'skipped$' <<<"$out" || fail "a benchmark was skipped"

out=$(TESSERA_CUDA_PLUGIN=/nowhere/libtessera_cuda.so "$run" --build "$build" 2>&1) || fail "it fails without a device"
has '^skipped: no CUDA device'

if out=$("$run" --build "$build" --no-such 2>&1); then fail "it takes any argument"; fi
has "unknown argument '--no-such'"

# Failed tests are named, with their own words, and so is one that ends the program. The backend takes 32 MiB.
if out=$(TESSERA_SOFT_GPU_MEMORY=33557000 "$run" --build "$build" --soft --tests --filter 'CudaNormTest.Rows' 2>&1); then
  fail "it succeeds where tests fail"
fi
has '^CudaNormTest +0 +1 +0'
has 'failed: CudaNormTest.Rows$'
has 'out of memory on GPU 0'

# The same script in the bundle.
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
mkdir "$bundle/bin" "$bundle/libexec" "$bundle/lib"
cp "$run" "$bundle/bin/gpu-tests"
cp "$tree/cmake/bundle/libraries.sh" "$bundle/libexec"
ln -s "$build/tests/test_gpu" "$build/bench/bench_gpu" "$bundle/libexec"
out=$(TESSERA_CUDA_PLUGIN=$build/tests/soft_gpu/libtessera_cuda.so "$bundle/bin/gpu-tests" --tests \
  --gtest_filter=CudaNormTest.Rows 2>&1) || fail "it fails in a bundle"
has '^CudaNormTest +1 +0 +0'
if out=$("$bundle/bin/gpu-tests" --soft 2>&1); then fail "a bundle takes --soft"; fi
has 'not in the bundle'
