#include "partitioner/hlo/attributes.h"

#include <array>

namespace tessera::hlo {
namespace {

using enum AttributeKind;

constexpr std::array kTable = {
    // Any instruction.
    AttributeFacts{"sharding", sharding},
    AttributeFacts{"frontend_attributes", dictionary},
    AttributeFacts{"metadata", dictionary},
    AttributeFacts{"backend_config", config},
    AttributeFacts{"control-predecessors", names},
    // Computations.
    AttributeFacts{"to_apply", name, true},
    AttributeFacts{"condition", name, true},
    AttributeFacts{"body", name, true},
    AttributeFacts{"select", name, true},
    AttributeFacts{"scatter", name, true},
    AttributeFacts{"calls", name, true},
    AttributeFacts{"called_computations", names, true},
    AttributeFacts{"branch_computations", names, true},
    AttributeFacts{"true_computation", name, true},
    AttributeFacts{"false_computation", name, true},
    // Shapes and dims.
    AttributeFacts{"dimensions", ints},
    AttributeFacts{"iota_dimension", integer},
    AttributeFacts{"index", integer},
    AttributeFacts{"slice", slice},
    AttributeFacts{"dynamic_slice_sizes", ints},
    AttributeFacts{"padding", pad},
    AttributeFacts{"exponent_bits", integer},
    AttributeFacts{"mantissa_bits", integer},
    // Products.
    AttributeFacts{"lhs_contracting_dims", ints},
    AttributeFacts{"rhs_contracting_dims", ints},
    AttributeFacts{"lhs_batch_dims", ints},
    AttributeFacts{"rhs_batch_dims", ints},
    AttributeFacts{"lhs_ragged_dims", ints},
    AttributeFacts{"rhs_group_dims", ints},
    AttributeFacts{"operand_precision", names},
    AttributeFacts{"algorithm", name},  // of a dot, or of random bits
    AttributeFacts{"window", window},
    AttributeFacts{"dim_labels", dim_labels},
    AttributeFacts{"feature_group_count", integer},
    AttributeFacts{"batch_group_count", integer},
    // Gathers and scatters.
    AttributeFacts{"offset_dims", ints},
    AttributeFacts{"collapsed_slice_dims", ints},
    AttributeFacts{"start_index_map", ints},
    AttributeFacts{"index_vector_dim", integer},
    AttributeFacts{"slice_sizes", ints},
    AttributeFacts{"operand_batching_dims", ints},
    AttributeFacts{"start_indices_batching_dims", ints},
    AttributeFacts{"indices_are_sorted", boolean},
    AttributeFacts{"update_window_dims", ints},
    AttributeFacts{"inserted_window_dims", ints},
    AttributeFacts{"scatter_dims_to_operand_dims", ints},
    AttributeFacts{"input_batching_dims", ints},
    AttributeFacts{"scatter_indices_batching_dims", ints},
    AttributeFacts{"unique_indices", boolean},
    // Comparing, sorting, drawing.
    AttributeFacts{"direction", name},
    AttributeFacts{"type", name},
    AttributeFacts{"is_stable", boolean},
    AttributeFacts{"k", integer},
    AttributeFacts{"largest", boolean},
    AttributeFacts{"distribution", name},
    AttributeFacts{"epsilon", number},
    AttributeFacts{"feature_index", integer},
    // Collectives.
    AttributeFacts{"replica_groups", replica_groups},
    AttributeFacts{"source_target_pairs", int_lists},
    AttributeFacts{"channel_id", integer},
    AttributeFacts{"use_global_device_ids", boolean},
    AttributeFacts{"constrain_layout", boolean},
    // Custom calls.
    AttributeFacts{"custom_call_target", text},
    AttributeFacts{"custom_call_has_side_effect", boolean},
    AttributeFacts{"api_version", name},
    AttributeFacts{"custom_call_schedule", name},
    AttributeFacts{"async_execution_thread", text},
    // The module.
    AttributeFacts{"num_partitions", integer},
    AttributeFacts{"replica_count", integer},
    AttributeFacts{"is_scheduled", boolean},
    AttributeFacts{"alias_passthrough_params", boolean},
};

constexpr std::array<std::string_view, std::variant_size_v<HloAttributeValue>> kInWords = {
    "true or false",
    "an integer",
    "a number",
    "a string",
    "a name",
    "a list of names",
    "a list of integers",
    "lists of integers",
    "a window",
    "dim labels",
    "padding",
    "slice ranges",
    "a sharding",
    "replica groups",
    "a dictionary",
    "text of unknown meaning",
};

}  // namespace

AttributeFacts attribute_facts(std::string_view name) {
  for (const AttributeFacts& facts : kTable)
    if (facts.name == name) return facts;
  return {name, verbatim};
}

std::string_view kind_in_words(size_t alternative) { return kInWords[alternative]; }

std::string unquoted(std::string_view value) {
  if (!value.starts_with('"')) return std::string(value);
  Lexer lexer(value);
  std::string text = lexer.string("a string");
  return lexer.at_end() ? text : std::string(value);
}

}  // namespace tessera::hlo
