// Products run on the device in the ways that programs run them.
#pragma once

#include <random>

#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "tests/gpu/device_testing.h"
#include "tests/support/tensor_types.h"

namespace tessera {

inline HostTensor normal_tensor(const TensorType& type, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, normal(generator));
  return tensor;
}

inline std::vector<HostTensor> normal_tensors(const std::vector<TensorType>& types) {
  std::vector<HostTensor> tensors;
  for (const TensorType& type : types) tensors.push_back(normal_tensor(type, static_cast<unsigned>(tensors.size() + 1)));
  return tensors;
}

// The op's own evaluation.
inline std::vector<HostTensor> evaluated(const OpDef& op, const Attributes& attributes,
                                         const std::vector<HostTensor>& operands) {
  std::vector<HostTensor> results;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& operand : operands) pointers.push_back(&operand);
  const std::vector<TensorType> types = types_of(operands);
  const OpCall call{types, attributes};
  for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
  op.eval(call, pointers, results);
  return results;
}
// In f64 on the very operands that the device has.
inline std::vector<HostTensor> evaluated_in_f64(const OpDef& op, Attributes attributes,
                                                const std::vector<HostTensor>& operands) {
  attributes.set(Attr::dtype, DType::f64);
  std::vector<HostTensor> wide;
  for (const HostTensor& operand : operands) wide.push_back(operand.cast(DType::f64));
  return evaluated(op, attributes, wide);
}
inline HostTensor product_in_f64(const OpDef& op, const Attributes& attributes,
                                 const std::vector<HostTensor>& operands) {
  return evaluated_in_f64(op, attributes, operands)[0];
}

inline Attributes attributes_of(const ops::DotDims& dims, std::optional<DType> result = {}) {
  Attributes attributes{{Attr::lhs_contracting, dims.lhs_contracting},
                        {Attr::rhs_contracting, dims.rhs_contracting},
                        {Attr::lhs_batch, dims.lhs_batch},
                        {Attr::rhs_batch, dims.rhs_batch}};
  if (result) attributes.set(Attr::dtype, *result);
  return attributes;
}

// One product with its buffers on a device.
struct ProductOptions {
  bool in_place = false;        // of an op that adds: the result lies over the sum
  bool unaligned = false;       // every buffer begins one element behind a multiple of 64 bytes
  bool unaligned_last = false;  // the last operand's does
};
class ProductRun {
 public:
  ProductRun(Backend& backend, const OpDef& op, const Attributes& attributes, const std::vector<HostTensor>& operands,
             ProductOptions options = {})
      : backend_(backend) {
    const std::vector<TensorType> operand_types = types_of(operands);
    const OpCall call{operand_types, attributes};
    const std::vector<TensorType> types = infer_types(op, call);
    kernel_ = backend.kernels().choose(op, call, types).kernel;
    EXPECT_FALSE(kernel_->is_reference);
    for (const HostTensor& operand : operands) {
      const bool unaligned = options.unaligned || (options.unaligned_last && &operand == &operands.back());
      operands_.push_back({operand.type(), allocate(operand.type(), unaligned)});
      backend.copy_to_device(operands_.back().data, operand.bytes().data(), operand.type().bytes());
    }
    for (const TensorType& type : types) results_.push_back({type, allocate(type, options.unaligned)});
    if (options.in_place) results_[0].data = operands_[static_cast<size_t>(op.alias(call, 0))].data;
    const int64_t bytes = kernel_->workspace_bytes ? kernel_->workspace_bytes(call, types) : 0;
    workspace_ = allocate({DType::u8, {bytes}}, false);
    instruction_.op = &op;
    instruction_.attributes = attributes;
  }
  ~ProductRun() {
    for (std::byte* buffer : buffers_) backend_.release(buffer);
  }
  ProductRun(const ProductRun&) = delete;
  ProductRun& operator=(const ProductRun&) = delete;

  void prepare() { kernel_->prepare(args()); }
  void run() { kernel_->run(args()); }
  std::vector<HostTensor> results() {
    std::vector<HostTensor> tensors;
    for (const TensorView& result : results_) {
      tensors.emplace_back(result.type);
      backend_.copy_to_host(tensors.back().bytes().data(), result.data, result.type.bytes());
    }
    return tensors;
  }
  HostTensor result() { return results()[0]; }

 private:
  KernelArgs args() const { return {instruction_, operands_, results_, workspace_, backend_.stream()}; }
  std::byte* allocate(const TensorType& type, bool unaligned) {
    const int64_t bytes = type.bytes() + 64;
    buffers_.push_back(backend_.allocate(bytes));
    backend_.set_bytes(buffers_.back(), 0xff, bytes);
    return buffers_.back() + (unaligned ? size_of(type.dtype) : 0);
  }

  Backend& backend_;
  const Kernel* kernel_ = nullptr;
  std::vector<std::byte*> buffers_;
  std::vector<TensorView> operands_;
  std::vector<TensorView> results_;
  std::byte* workspace_ = nullptr;
  Instruction instruction_;
};

inline std::vector<HostTensor> results_on(Backend& backend, const OpDef& op, const Attributes& attributes,
                                          const std::vector<HostTensor>& operands, ProductOptions options = {}) {
  ProductRun product(backend, op, attributes, operands, options);
  product.prepare();
  backend.finish_preparing();
  product.run();
  return product.results();
}
inline HostTensor product_on(Backend& backend, const OpDef& op, const Attributes& attributes,
                             const std::vector<HostTensor>& operands, ProductOptions options = {}) {
  return results_on(backend, op, attributes, operands, options)[0];
}

// Rounding of the result, and of sums of the width that they have.
inline double product_tolerance(DType in, DType out) {
  if (out == DType::bf16) return 0x1p-8;
  if (out == DType::f16) return 0x1p-10;
  return in == DType::f64 ? 1e-13 : 1e-5;
}

}  // namespace tessera
