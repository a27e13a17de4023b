// The reductions of the stand-in for NCCL.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace soft_gpu {

size_t size_of(ncclDataType_t type);

// `count` elements at byte `offset` of each input, combined in an order that changes from element to element.
void reduce(char* output, const std::vector<std::vector<char>>& inputs, size_t offset, size_t count,
            ncclDataType_t type, ncclRedOp_t op);

}  // namespace soft_gpu
