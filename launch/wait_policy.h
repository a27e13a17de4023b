// How long threads of a kernel spin for each other before they sleep.
//
// GNU OpenMP spins for milliseconds at every barrier. Alone on its cores a rank gains a few per cent
// by that; where other programs want the cores too, the spinning threads use up the time slices that
// the thread they wait for needs, and a step takes several times as long (docs/benchmarks.md). So
// the spin is bounded to about the time of a wake-up.
#pragma once

namespace tessera {

// Sets the bound in the environment and starts the program anew, in the same process, since the
// OpenMP library reads its settings before main. Arguments, descriptors and blocked signals are those
// of the first start, which has cost some 7 ms. Returns where nothing is to be done: the user chose
// (OMP_WAIT_POLICY or GOMP_SPINCOUNT), or it is done already, or the program cannot be started anew
// (no /proc, or run by `ld.so PROGRAM`). For verbs that compute, before they do anything else.
void bound_spinning(char** argv);

}  // namespace tessera
