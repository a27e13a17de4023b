#include "launch/engine/peak.h"

#include <algorithm>
#include <string>

#include "core/base/steady_clock.h"
#include "core/base/strings.h"
#include "core/compile/compile.h"
#include "core/ir/builder.h"
#include "core/ops/contraction.h"

namespace tessera {
namespace {

constexpr int kRounds = 6, kProducts = 4;

// Several products in one graph, so that the time of a submission does not count.
Graph products(DType dtype, int64_t size) {
  Graph graph;
  graph.name = "peak";
  Builder b(graph);
  std::vector<Value> operands;
  for (int i = 0; i <= kProducts; ++i)
    operands.push_back(b.input(InputKind::data, cat("x", i), {dtype, {size, size}}));
  for (size_t i = 0; i < kProducts; ++i)
    b.output(ops::matmul(b, operands[i], operands[i + 1]), cat("y", i));
  return graph;
}

}  // namespace

PeakProbe::PeakProbe(Backend& backend, DType dtype, int64_t size)
    : backend_(backend), size_(size), executable_(compile(products(dtype, size), backend.kernels())), store_(backend) {
  executor_ = std::make_unique<Executor>(executable_, backend, nullptr, 0, store_);
  for (int i = 0; i <= kProducts; ++i) {
    const TensorView view = executor_->input(i);
    HostTensor values(view.type);
    for (int64_t e = 0; e < values.elements(); ++e) values.set_real(e, 0.25 + 0.01 * static_cast<double>(e % 37));
    backend.copy_to_device(view.data, values.bytes().data(), view.type.bytes());
  }
}

double PeakProbe::measure(World& world) {
  double best = 0;
  world.barrier();
  for (int round = 0; round < kRounds; ++round) {
    const double start = steady_seconds();
    executor_->run();
    backend_.synchronize();
    const double seconds = steady_seconds() - start;
    const auto n = static_cast<double>(size_);
    best = std::max(best, kProducts * 2.0 * n * n * n / seconds);
  }
  double total = 0;
  for (const std::string& text : world.all_gather_text(std::to_string(best))) total += std::stod(text);
  return total;
}

}  // namespace tessera
