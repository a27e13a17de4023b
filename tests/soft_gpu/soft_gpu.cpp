#include "tests/soft_gpu/soft_gpu.h"
