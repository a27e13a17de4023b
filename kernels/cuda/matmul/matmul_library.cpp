#include "kernels/cuda/matmul/matmul_library.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/matmul/check.h"
#include "kernels/cuda/matmul/matmul_timing.h"

namespace tessera::cuda {
namespace {

constexpr int kTimedCandidates = 8;

}  // namespace

MatmulLibrary::MatmulLibrary(const Context& context, std::string device_name, bool autotune)
    : context_(context), autotune_(autotune) {
  choices_.library = cat("cuBLASLt ", cublasLtGetVersion());
  choices_.device = cat(device_name, ", compute capability ", context.major, ".", context.minor, ", ",
                        context.multiprocessors, " multiprocessors");
  check(cublasLtCreate(&handle_), "cublasLtCreate");
  check(cudaMalloc(&workspace_, static_cast<size_t>(kMatmulWorkspaceBytes)), "the workspace of matrix products");
}

MatmulLibrary::~MatmulLibrary() {
  plans_.clear();
  (void)cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

MatmulAlgorithm MatmulLibrary::choose(const MatmulPlan& plan, const std::string& key) const {
  const auto adopted = choices_.of_problem.find(key);
  if (adopted != choices_.of_problem.end()) {
    if (plan.accepts(adopted->second)) return adopted->second;
    log_warning("warning: the algorithm that was chosen before for the product ", key,
                " is refused by cuBLASLt; it is chosen anew");
  }
  const std::vector<MatmulAlgorithm> proposed = plan.propose(autotune_ ? kTimedCandidates : 1);
  if (proposed.empty()) throw_user_error("cuBLASLt: there is no algorithm for the product ", key);
  if (proposed[0].epilogue_behind)
    log_warning("warning: cuBLASLt has no algorithm for the product ", key, "; its epilogue is a kernel of its own");
  if (!autotune_ || proposed.size() == 1) return proposed[0];
  return fastest(plan, proposed, workspace_, context_.stream);
}

const MatmulPlan& MatmulLibrary::plan(const MatmulProblem& problem) {
  const std::string key = text_of(problem);
  if (const auto known = plans_.find(key); known != plans_.end()) return *known->second;
  auto made = std::make_unique<MatmulPlan>(handle_, problem);
  const MatmulAlgorithm algorithm = choose(*made, key);
  made->choose(algorithm);
  choices_.of_problem[key] = algorithm;
  return *(plans_[key] = std::move(made));
}

std::string MatmulLibrary::choices() const { return print_choices(choices_); }

void MatmulLibrary::adopt_choices(std::string_view text) {
  const MatmulChoices given = parse_choices(text);
  if (given.library != choices_.library || given.device != choices_.device) {
    log_warning("warning: the algorithms of matrix products are chosen anew: the earlier ones are for ",
                given.library, " on ", given.device, ", this is ", choices_.library, " on ", choices_.device,
                "; results may differ in the last bits");
    return;
  }
  for (const auto& [key, algorithm] : given.of_problem) {
    const auto made = plans_.find(key);
    if (made == plans_.end()) {
      choices_.of_problem[key] = algorithm;  // asked for when the plan is made
    } else if (made->second->accepts(algorithm)) {
      made->second->choose(algorithm);
      choices_.of_problem[key] = algorithm;
    } else {
      log_warning("warning: the algorithm that was chosen elsewhere for the product ", key,
                  " is refused by cuBLASLt, and this rank keeps its own");
    }
  }
}

}  // namespace tessera::cuda
