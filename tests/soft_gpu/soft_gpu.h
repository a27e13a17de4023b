// A GPU in software, for tests: the part of CUDA's runtime, cuBLASLt, NVRTC and NCCL that kernels/cuda uses,
// under the same names, so that the very sources of the plugin run, kernels included, on any machine.
//
// It is made to find faults rather than to be fast:
//   - A block's threads are fibers that run one at a time, in a random order between barriers; what only works
//     in lockstep, or lacks a barrier, computes something else.
//   - Streams are queues. Work runs late, in a random order that only streams and events restrict; a missing
//     event shows as a wrong result. Capture and replay follow the same rules.
//   - Memory comes filled with NaN and between guard zones; device memory that the host touches, or a kernel
//     touches out of bounds, stops the program with a message.
// Every choice follows from a seed (TESSERA_SOFT_GPU_SEED), and TESSERA_SOFT_GPU_DEVICES says how many there are.
#pragma once
