#include "partitioner/hlo/import_support.h"

#include <algorithm>

#include "core/ir/regions.h"
#include "core/ops/structure.h"
#include "core/passes/inline_calls.h"

namespace tessera::hlo {

void expect_operands(const ImportContext& context, int count) {
  if (context.operand_count() != count)
    context.fail(cat(context.instruction().opcode, " takes ", count, " operands, not ",
                     context.operand_count()));
}

std::vector<Value> results_of(Builder& builder, Value first) {
  std::vector<Value> results;
  const size_t count = builder.graph().at(first).results.size();
  for (size_t i = 0; i < count; ++i) results.push_back({first.instruction, static_cast<int>(i)});
  return results;
}

std::optional<HostTensor> scalar_constant(const Graph& graph, Value value) {
  const Instruction& made = graph.at(value);
  const TensorType& type = graph.type(value);
  if (!made.is(ops::kConstant) || type.rank() != 0) return std::nullopt;
  if (made.attributes.has(Attr::value)) return *made.attributes.get<ConstTensor>(Attr::value);
  return HostTensor::filled(type, made.attributes.number(Attr::scalar));
}

bool is_identity_constant(const Graph& graph, Value value, ReduceKind kind) {
  const std::optional<HostTensor> constant = scalar_constant(graph, value);
  if (!constant) return false;
  const DType dtype = constant->dtype();
  if (*constant == HostTensor::filled({dtype, {}}, ops::identity_of(kind, dtype))) return true;
  return kind == ReduceKind::sum && is_float(dtype) && constant->get_real(0) == 0;
}

GraphRef flat_region(ImportContext& context, std::string_view name) {
  const GraphRef region = context.region(context.name_of(name));
  const auto& all = region->instructions;
  if (std::none_of(all.begin(), all.end(), has_control_flow)) return region;
  return std::make_shared<const Graph>(inline_calls(*region));
}

Window full_window(const ImportContext& context, const Window* window, size_t rank) {
  Window full = window ? *window : Window{};
  const auto complete = [&](Ints& entries, int64_t fallback, bool is_positive, const char* what) {
    if (entries.empty()) entries.assign(rank, fallback);
    if (entries.size() != rank)
      context.fail(
          cat("window has ", entries.size(), " entries of ", what, " for ", rank, " dims"));
    for (int64_t entry : entries)
      if (is_positive && entry < 1)
        context.fail(cat("window: ", what, "=", join(entries, "x"), " must be positive"));
  };
  complete(full.size, 1, true, "size");
  complete(full.stride, 1, true, "stride");
  complete(full.pad_low, 0, false, "pad");
  complete(full.pad_high, 0, false, "pad");
  complete(full.lhs_dilate, 1, true, "lhs_dilate");
  complete(full.rhs_dilate, 1, true, "rhs_dilate");
  complete(full.rhs_reversal, 0, false, "rhs_reversal");
  return full;
}

}  // namespace tessera::hlo
