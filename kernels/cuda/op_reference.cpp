// The op's own reference evaluation, on the host: right for every op, and slow, since the device waits for it.
#include <cstring>

#include "core/base/error.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {
namespace {

void run_on_host(const KernelArgs& args) {
  const cudaStream_t stream = stream_of(args);
  std::vector<HostTensor> operands, results;
  operands.reserve(args.operands.size());
  std::vector<TensorView> operand_views, result_views;
  for (const TensorView& view : args.operands) {
    HostTensor& tensor = operands.emplace_back(view.type);
    check(cudaMemcpyAsync(tensor.bytes().data(), view.data, tensor.bytes().size(), cudaMemcpyDeviceToHost, stream),
          "a copy to the host");
    operand_views.push_back({view.type, tensor.bytes().data()});
  }
  check(cudaStreamSynchronize(stream), "waiting for the device");
  results.reserve(args.results.size());
  for (const TensorView& view : args.results) {
    HostTensor& tensor = results.emplace_back(view.type);
    result_views.push_back({view.type, tensor.bytes().data()});
  }
  reference_kernel().run({args.instruction, operand_views, result_views, nullptr, nullptr});
  for (size_t r = 0; r < results.size(); ++r)
    check(cudaMemcpyAsync(args.results[r].data, results[r].bytes().data(), results[r].bytes().size(),
                          cudaMemcpyHostToDevice, stream),
          "a copy to the device");
  check(cudaStreamSynchronize(stream), "waiting for the device");
}

}  // namespace

void register_reference(KernelTable& table) {
  Kernel kernel = reference_kernel();
  kernel.name = "cuda.reference_on_host";
  kernel.run = run_on_host;
  kernel.needs_host = true;
  table.set_reference(kernel);
}

}  // namespace tessera::cuda
