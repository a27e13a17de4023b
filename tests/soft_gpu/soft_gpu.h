// A GPU in software, for tests: the part of CUDA's runtime and driver, cuBLASLt, NVRTC and NCCL that kernels/cuda uses,
// under the same names, so that the very sources of the plugin run, kernels included, on any machine.
//
// It is made to find faults rather than to be fast; *_test.cpp here shows each of them found:
//   - A block's threads are fibers that run one at a time, in a random order between barriers; what only works
//     in lockstep, or lacks a barrier, computes something else in most orders (simt.h: what ends the program at once).
//     Threads see each other's writes at once: a missing fence, and a race whose every order gives the same, stay
//     hidden.
//   - Streams are queues. Work runs late, in a random order that only streams and events restrict; a missing
//     event shows as a wrong result in some of many runs. Replays of a capture follow the same rules, and what CUDA
//     refuses while a stream captures is refused.
//   - Asynchronous copies and products of warpgroups are done when they are waited for, and their places hold NaN until
//     then; descriptors of matrices and maps of tensors are decoded as documented, swizzling included.
//   - Memory holds NaN at first: device memory, and shared memory in each block (variables of kernels that are compiled
//     at run time excepted), so that what nobody wrote shows in the result.
//   - Device memory that the host touches while the device rests, that is freed, or that is 256 bytes or more behind
//     what was allocated, stops the program with a message. What is written nearer to it is found when somebody waits;
//     what is read there is a NaN of bf16, and wrong in any type.
//   - Launches, copies, algorithms of cuBLASLt and collectives that the libraries refuse are refused with their errors.
// Not modelled: registers, alignment of loads and stores (but for asynchronous copies and rows of matrices), speed.
// Every choice follows from a seed (TESSERA_SOFT_GPU_SEED), and TESSERA_SOFT_GPU_DEVICES says how many there are.
#pragma once
