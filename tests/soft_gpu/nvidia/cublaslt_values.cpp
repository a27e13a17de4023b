// Compiled where NVIDIA's headers are, against them: what the stand-in promises is so.
#include <cublasLt.h>

#include "tests/soft_gpu/cublaslt_values.h"
