#include "tests/gpu/device_testing.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/ir/builder.h"
#include "kernels/cuda/plugin/open.h"
#include "tests/support/random_tensor.h"
#include "tests/support/tensor_types.h"

namespace tessera {
namespace {

struct Opened {
  const cuda::Plugin* plugin = nullptr;
  std::unique_ptr<Backend> backend;
  std::string reason;
};

Opened open_device() {
  Opened opened;
  try {
    opened.plugin = &cuda::open_plugin();
    if (opened.plugin->devices().empty())
      opened.reason = "none is visible";
    else
      opened.backend = opened.plugin->create_backend({});
  } catch (const std::exception& error) {
    opened.reason = error.what();
  }
  return opened;
}

Opened& opened() {
  static Opened kOpened = open_device();
  return kOpened;
}

constexpr std::byte kGuardByte{0xa5};

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
      return 1e-5;
    case DType::f16:
      return 1.0 / 1024;
    case DType::bf16:
      return 1.0 / 128;
    default:
      return is_float(dtype) ? 0.25 : 0;
  }
}

// The op's results, in f64 where that has a meaning.
std::vector<HostTensor> evaluate(const OpDef& op, const Attributes& attributes,
                                 const std::vector<HostTensor>& operands, bool in_f64) {
  const auto run = [&](const std::vector<HostTensor>& values) {
    std::vector<TensorType> types;
    std::vector<const HostTensor*> pointers;
    for (const HostTensor& value : values) {
      types.push_back(value.type());
      pointers.push_back(&value);
    }
    const OpCall call{types, attributes};
    std::vector<HostTensor> results;
    for (const TensorType& type : infer_types(op, call)) results.emplace_back(type);
    op.eval(call, pointers, results);
    return results;
  };
  if (!in_f64) return run(operands);
  std::vector<HostTensor> wide;
  for (const HostTensor& operand : operands)
    wide.push_back(is_float(operand.dtype()) ? operand.cast(DType::f64) : operand);
  try {
    return run(wide);
  } catch (const UserError&) {
    return run(operands);  // attributes name the type
  }
}

std::string place_of(int64_t index, const Shape& shape) { return cat("[", join(position_of(index, shape)), "]"); }

// The first element that is off.
void compare(const HostTensor& got, const HostTensor& want, double tolerance, bool by_row, size_t result) {
  ASSERT_EQ(got.elements(), want.elements());
  if (!is_float(got.dtype())) {
    for (int64_t i = 0; i < got.elements(); ++i)
      ASSERT_TRUE(got.get_complex(i) == want.get_complex(i) && got.get_int(i) == want.get_int(i))
          << "result " << result << place_of(i, got.shape()) << ": got " << got.get_int(i) << ", want "
          << want.get_int(i);
    return;
  }
  // What overflows the type is infinite in it.
  const HostTensor rounded = want.cast(got.dtype());
  const int64_t row = by_row && got.shape().rank() > 0 ? std::max<int64_t>(got.shape()[got.shape().rank() - 1], 1)
                                                     : std::max<int64_t>(got.elements(), 1);
  double scale = 0;
  for (int64_t i = 0; i < got.elements(); ++i) {
    if (i % row == 0) {
      scale = 0;
      for (int64_t j = i; j < std::min(i + row, got.elements()); ++j)
        if (std::isfinite(want.get_real(j))) scale = std::max(scale, std::abs(want.get_real(j)));
    }
    const double value = got.get_real(i), wanted = want.get_real(i), near = rounded.get_real(i);
    if (value == near || (std::isnan(value) && std::isnan(near))) continue;
    ASSERT_LE(std::abs(value - wanted), tolerance * std::max(std::abs(wanted), scale))
        << "result " << result << place_of(i, got.shape()) << ": got " << value << ", want " << wanted;
    ASSERT_FALSE(std::isnan(value) != std::isnan(near))
        << "result " << result << place_of(i, got.shape()) << ": got " << value << ", want " << wanted;
  }
}

// One kernel on one set of operands.
class KernelRun {
 public:
  KernelRun(Backend& backend, const Kernel& kernel, const OpDef& op, const Attributes& attributes,
      const std::vector<HostTensor>& operands, const std::vector<TensorType>& operand_types,
      const std::vector<TensorType>& result_types)
      : backend_(backend),
        kernel_(kernel),
        call_{operand_types, attributes},
        operands_(operands),
        types_(result_types) {
    instruction_.op = &op;
    instruction_.attributes = attributes;
  }

  enum class Way { direct, captured, in_place };

  std::vector<HostTensor> operator()(Way way) {
    std::vector<GuardedBuffer> operands, results;
    std::vector<TensorView> operand_views, result_views;
    for (const HostTensor& operand : operands_) {
      operands.emplace_back(backend_, operand);
      operand_views.push_back({operand.type(), operands.back().data()});
    }
    const std::vector<int> over = way == Way::in_place ? places() : std::vector<int>(types_.size(), -1);
    for (size_t r = 0; r < types_.size(); ++r) {
      results.emplace_back(backend_, types_[r].bytes());
      result_views.push_back(
          {types_[r], over[r] >= 0 ? operand_views[static_cast<size_t>(over[r])].data : results[r].data()});
    }
    const int64_t workspace_bytes = kernel_.workspace_bytes ? kernel_.workspace_bytes(call_, types_) : 0;
    const GuardedBuffer workspace(backend_, workspace_bytes);
    const KernelArgs args{instruction_, operand_views, result_views, workspace.data(), backend_.stream()};
    if (kernel_.prepare) kernel_.prepare(args);
    backend_.finish_preparing();
    if (way == Way::captured) {
      backend_.begin_capture();
      kernel_.run(args);
      backend_.replay(backend_.end_capture());
    } else {
      kernel_.run(args);
    }
    std::vector<HostTensor> got;
    for (size_t r = 0; r < types_.size(); ++r)
      got.push_back((over[r] >= 0 ? operands[static_cast<size_t>(over[r])] : results[r])
                        .get(types_[r], cat("result ", r)));
    for (size_t o = 0; o < operands.size(); ++o) {
      const HostTensor after = operands[o].get(operands_[o].type(), cat("operand ", o));
      if (std::find(over.begin(), over.end(), static_cast<int>(o)) == over.end()) {
        EXPECT_TRUE(after == operands_[o]) << "the kernel changed operand " << o;
      }
    }
    (void)workspace.get({DType::u8, {workspace_bytes}}, "the workspace");
    return got;
  }

  // Result -> operand that it is written over, or -1.
  std::vector<int> places() const {
    std::vector<int> over(types_.size(), -1);
    const auto by = kernel_.in_place ? kernel_.in_place : instruction_.op->alias;
    for (size_t r = 0; r < types_.size(); ++r) {
      if (by) {
        over[r] = by(call_, static_cast<int>(r));
      } else if (kernel_.in_place_any) {
        for (size_t o = 0; o < operands_.size() && over[r] < 0; ++o)
          if (call_.operands[o].elements() == types_[r].elements() && call_.operands[o].bytes() == types_[r].bytes())
            over[r] = static_cast<int>(o);
      }
      if (over[r] >= 0 && std::count(over.begin(), over.begin() + static_cast<std::ptrdiff_t>(r), over[r]) > 0)
        over[r] = -1;
    }
    return over;
  }

 private:
  Backend& backend_;
  const Kernel& kernel_;
  OpCall call_;
  Instruction instruction_;
  const std::vector<HostTensor>& operands_;
  const std::vector<TensorType>& types_;
};

}  // namespace

std::string no_device_reason() { return opened().reason; }

void DeviceTest::SetUp() {
  if (!opened().backend) GTEST_SKIP() << "skipped: no CUDA device (" << opened().reason << ")";
}

Backend& DeviceTest::backend() { return *opened().backend; }
const cuda::Plugin& DeviceTest::plugin() { return *opened().plugin; }

GuardedBuffer::GuardedBuffer(Backend& backend, int64_t bytes)
    : backend_(backend), memory_(backend.allocate(bytes + 2 * kGuard)), bytes_(bytes) {
  std::vector<std::byte> all(static_cast<size_t>(bytes + 2 * kGuard), kGuardByte);
  std::fill_n(all.begin() + kGuard, bytes, std::byte{0xff});
  backend_.copy_to_device(memory_, all.data(), static_cast<int64_t>(all.size()));
}
GuardedBuffer::GuardedBuffer(Backend& backend, const HostTensor& tensor)
    : GuardedBuffer(backend, tensor.type().bytes()) {
  put(tensor.bytes());
}
GuardedBuffer::GuardedBuffer(GuardedBuffer&& other) noexcept
    : backend_(other.backend_), memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_) {}
GuardedBuffer::~GuardedBuffer() {
  if (memory_) backend_.release(memory_);
}

void GuardedBuffer::put(std::span<const std::byte> bytes) {
  TESSERA_CHECK(static_cast<int64_t>(bytes.size()) == bytes_);
  if (bytes_ > 0) backend_.copy_to_device(data(), bytes.data(), bytes_);
}

HostTensor GuardedBuffer::get(const TensorType& type, const std::string& what) const {
  TESSERA_CHECK(type.bytes() == bytes_);
  std::vector<std::byte> all(static_cast<size_t>(bytes_ + 2 * kGuard));
  backend_.copy_to_host(all.data(), memory_, static_cast<int64_t>(all.size()));
  const auto is_guard = [](std::byte b) { return b == kGuardByte; };
  EXPECT_TRUE(std::all_of(all.begin(), all.begin() + kGuard, is_guard)) << what << ": written before its begin";
  EXPECT_TRUE(std::all_of(all.end() - kGuard, all.end(), is_guard)) << what << ": written behind its end";
  HostTensor tensor(type);
  std::copy_n(all.begin() + kGuard, bytes_, tensor.bytes().begin());
  return tensor;
}

std::string DeviceTest::chosen_kernel(const OpDef& op, const OpSample& sample) {
  const OpCall call{sample.operands, sample.attributes};
  return backend().kernels().choose(op, call, infer_types(op, call)).kernel->name;
}

CheckedKernel DeviceTest::check_kernel(const OpDef& op, const OpSample& sample, const KernelCheck& check) {
  CheckedKernel checked;
  for (int seed = 0; seed < check.seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "draw " << seed);
    std::vector<HostTensor> operands;
    for (size_t i = 0; i < sample.operands.size(); ++i)
      operands.push_back(random_operand_tensor(sample.operands[i], static_cast<unsigned>(i + 1 + 100 * seed),
                                               i < sample.ranges.size() ? sample.ranges[i] : std::pair{-1.0, 1.0}));
    checked = check_kernel(op, sample.attributes, std::move(operands), check);
  }
  return checked;
}

CheckedKernel DeviceTest::check_kernel(const OpDef& op, const Attributes& attributes,
                                       std::vector<HostTensor> operands, const KernelCheck& check) {
  const std::vector<TensorType> operand_types = types_of(operands);
  const OpCall call{operand_types, attributes};
  const std::vector<TensorType> types = infer_types(op, call);
  const KernelTable::Choice choice = backend().kernels().choose(op, call, types);
  const Kernel& kernel = *choice.kernel;
  CheckedKernel checked{kernel.name, kernel.is_reference, join(choice.refusals), {}};
  SCOPED_TRACE(testing::Message() << op.name << "(" << join(operand_types) << ") by " << kernel.name);
  EXPECT_TRUE(kernel.name.starts_with(check.kernel)) << "wanted " << check.kernel << "; " << checked.refusals;
  if (!check.may_be_reference) {
    EXPECT_FALSE(kernel.is_reference) << checked.refusals;
  }
  if (kernel.is_reference) return checked;

  using Way = KernelRun::Way;
  KernelRun run(backend(), kernel, op, attributes, operands, operand_types, types);
  checked.results = run(Way::direct);
  EXPECT_TRUE(checked.results == run(Way::direct)) << "the second run has other bits";
  if (backend().can_capture() && !kernel.needs_host) {
    EXPECT_TRUE(checked.results == run(Way::captured)) << "captured and replayed it has other bits";
  }
  const std::vector<int> over = run.places();
  if (std::any_of(over.begin(), over.end(), [](int o) { return o >= 0; })) {
    EXPECT_TRUE(checked.results == run(Way::in_place)) << "in place it has other bits";
  }

  const std::vector<HostTensor> want = evaluate(op, attributes, operands, check.in_f64);
  double coarsest = 0;
  for (const TensorType& type : operand_types) coarsest = std::max(coarsest, tolerance_of(type.dtype));
  for (size_t r = 0; r < types.size(); ++r)
    compare(checked.results[r], want[r],
            check.tolerance.value_or(std::max(coarsest, tolerance_of(types[r].dtype))), check.scale_by_row, r);
  return checked;
}

std::optional<long> kernel_launches(const char* part) {
  void* const library = dlopen("libsoft_gpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return std::nullopt;
  return reinterpret_cast<long (*)(const char*)>(dlsym(library, "soft_gpu_launches"))(part);
}

}  // namespace tessera
