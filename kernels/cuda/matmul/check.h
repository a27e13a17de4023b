// cuBLASLt's status codes become errors of ours.
#pragma once

#include <cublasLt.h>

#include "core/base/error.h"

namespace tessera::cuda {

// Throws UserError "cuBLASLt: WHAT: TEXT (NAME)" where the call failed.
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw_user_error("cuBLASLt: ", what, ": ", cublasLtGetStatusString(status), " (",
                     cublasLtGetStatusName(status), ")");
}

}  // namespace tessera::cuda
