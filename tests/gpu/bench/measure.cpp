#include "tests/gpu/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/ops/norm.h"
#include "tests/support/random_tensor.h"

namespace tessera::bench {
namespace {

class Buffer {
 public:
  Buffer(Backend& backend, int64_t bytes) : backend_(backend), data_(backend.allocate(std::max<int64_t>(bytes, 1))) {}
  Buffer(Buffer&& other) noexcept : backend_(other.backend_), data_(std::exchange(other.data_, nullptr)) {}
  ~Buffer() {
    if (data_) backend_.release(data_);
  }
  std::byte* data() const { return data_; }

 private:
  Backend& backend_;
  std::byte* data_;
};

// Random elements, repeated beyond the first million: a prime number, so that no tile meets the same twice.
void fill(Backend& backend, std::byte* to, const TensorType& type, unsigned seed, std::pair<double, double> range) {
  const int64_t elements = type.elements(), drawn = std::min<int64_t>(elements, 1000003), bytes = type.bytes();
  if (elements == 0) return;
  const HostTensor values = random_operand_tensor({type.dtype, {drawn}}, seed, range);
  int64_t done = values.type().bytes();
  backend.copy_to_device(to, values.bytes().data(), done);
  for (int64_t more; done < bytes; done += more) {
    more = std::min(done, bytes - done);
    backend.copy(to + done, to, more);
  }
}

// NaN bits that were there before are gone from both ends. (Arithmetic makes other NaNs.)
void check_written(Backend& backend, const std::byte* data, const TensorType& type, const Case& one) {
  const int64_t width = type.elements() > 0 ? type.bytes() / type.elements() : 0;
  if (width < 2) return;  // bytes of all ones may be meant
  const int64_t bytes = std::min<int64_t>(type.bytes(), 64 * width);
  for (const int64_t at : {int64_t{0}, type.bytes() - bytes}) {
    std::vector<unsigned char> piece(static_cast<size_t>(bytes));
    backend.copy_to_host(piece.data(), data + at, bytes);
    const auto is_new = [](unsigned char byte) { return byte != 0xff; };
    for (int64_t e = 0; e < bytes; e += width)
      TESSERA_CHECK(std::any_of(piece.begin() + e, piece.begin() + e + width, is_new), one.family, " of ", one.model,
                    ": byte ", at + e, " of a result ", type, " was not written");
  }
}

// Operand that a result is written over, where the op is an update; -1 elsewhere.
int place_of(const Case& one, const Kernel& kernel, int result) {
  const OpCall call{one.operands, one.attributes};
  const auto by = kernel.in_place ? kernel.in_place : one.op->alias;
  return by ? by(call, result) : -1;
}

}  // namespace

Measurer::Measurer(Backend& backend, const MeasureOptions& options)
    : backend_(backend),
      options_(options),
      flushed_(backend.allocate(options.flush_bytes)),
      sum_(backend.allocate(4)),
      read_{{DType::f32, {options.flush_bytes / 4}}, flushed_},
      result_{{DType::f32, {}}, sum_} {
  if (!backend.can_capture()) throw_user_error("bench_gpu: the backend cannot record");
  backend.zero(flushed_, options.flush_bytes);
  reading_.op = &ops::kSumOfSquares;
  const std::vector<TensorType> operands{read_.type}, results{result_.type};
  const OpCall call{operands, reading_.attributes};
  reader_ = backend.kernels().choose(*reading_.op, call, results).kernel;
  workspace_ = backend.allocate(std::max<int64_t>(
      reader_->workspace_bytes ? reader_->workspace_bytes(call, results) : 0, 1));
  if (reader_->prepare) reader_->prepare({reading_, {&read_, 1}, {&result_, 1}, workspace_, backend.stream()});
  backend.finish_preparing();
  only_flushes_ = record([] {});
}
Measurer::~Measurer() {
  backend_.drop(only_flushes_);
  for (std::byte* memory : {flushed_, sum_, workspace_}) backend_.release(memory);
}

void Measurer::flush() {
  reader_->run({reading_, {&read_, 1}, {&result_, 1}, workspace_, backend_.stream()});
}

int Measurer::record(const std::function<void()>& submit) {
  backend_.begin_capture();
  for (int i = 0; i < options_.runs; ++i) {
    flush();
    submit();
  }
  return backend_.end_capture();
}

double Measurer::replay(int recording) {
  backend_.synchronize();
  const auto start = std::chrono::steady_clock::now();
  backend_.replay(recording);
  backend_.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Timing Measurer::time(const std::function<void()>& submit) {
  const int recording = record(submit);
  std::vector<double> seconds;
  for (int i = -2; i < options_.replays; ++i) {
    const double without = replay(only_flushes_), with = replay(recording);
    // Never 0, whatever the noise: shares are divided by it.
    if (i >= 0) seconds.push_back(std::max((with - without) / options_.runs, 1e-9));
  }
  backend_.drop(recording);
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front()};
}

Measured Measurer::run(const Case& one) try {
  const OpCall call{one.operands, one.attributes};
  const std::vector<TensorType> types = one.results();
  const KernelTable::Choice choice = backend_.kernels().choose(*one.op, call, types);
  const Kernel& kernel = *choice.kernel;
  if (kernel.is_reference) return {kernel.name, cat("no kernel: ", join(choice.refusals)), {}};
  if (kernel.needs_host) return {kernel.name, "it needs the host, and cannot be recorded", {}};

  Instruction instruction;
  instruction.op = one.op;
  instruction.attributes = one.attributes;
  std::vector<Buffer> buffers;
  std::vector<TensorView> operands, results;
  for (size_t i = 0; i < one.operands.size(); ++i) {
    buffers.emplace_back(backend_, one.operands[i].bytes());
    operands.push_back({one.operands[i], buffers.back().data()});
    fill(backend_, buffers.back().data(), one.operands[i], static_cast<unsigned>(i + 1),
         i < one.ranges.size() ? one.ranges[i] : std::pair{-1.0, 1.0});
  }
  for (size_t r = 0; r < types.size(); ++r) {
    const int over = place_of(one, kernel, static_cast<int>(r));
    if (over < 0) {
      buffers.emplace_back(backend_, types[r].bytes());
      backend_.set_bytes(buffers.back().data(), 0xff, types[r].bytes());
    }
    results.push_back({types[r], over < 0 ? buffers.back().data() : operands[static_cast<size_t>(over)].data});
  }
  const Buffer workspace(backend_, kernel.workspace_bytes ? kernel.workspace_bytes(call, types) : 0);
  const KernelArgs args{instruction, operands, results, workspace.data(), backend_.stream()};
  if (kernel.prepare) kernel.prepare(args);
  backend_.finish_preparing();
  const Timing timing = time([&] { kernel.run(args); });
  for (const TensorView& result : results) check_written(backend_, result.as<std::byte>(), result.type, one);
  return {kernel.name, "", timing};
} catch (const UserError& error) {
  return {"", error.what(), {}};  // out of memory, as a rule
}

double Measurer::copy_rate(int64_t bytes) {
  const Buffer from(backend_, bytes), to(backend_, bytes);
  fill(backend_, from.data(), {DType::f32, {bytes / 4}}, 1, {-1, 1});
  return 2.0 * static_cast<double>(bytes) / time([&] { backend_.copy(to.data(), from.data(), bytes); }).median;
}

}  // namespace tessera::bench
