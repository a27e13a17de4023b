#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/literal.h"
#include "partitioner/hlo/module.h"
#include "partitioner/hlo/parse_shape.h"
#include "partitioner/hlo/source_tables.h"

namespace tessera::hlo {
namespace {

void append_path(std::string& out, const Ints& path) { out += "{" + join(path, ",") + "}"; }

void append_aliases(std::string& out, const HloModule& module) {
  if (module.aliases.empty()) return;
  out += ", input_output_alias={ ";
  for (size_t i = 0; i < module.aliases.size(); ++i) {
    const HloAlias& alias = module.aliases[i];
    if (i != 0) out += ", ";
    append_path(out, alias.output_index);
    out += ": (" + std::to_string(alias.parameter) + ", ";
    append_path(out, alias.parameter_index);
    out += alias.must ? ", must-alias)" : ", may-alias)";
  }
  out += " }";
}

void append_donors(std::string& out, const HloModule& module) {
  if (module.donors.empty()) return;
  out += ", buffer_donor={ ";
  for (size_t i = 0; i < module.donors.size(); ++i) {
    const HloDonor& donor = module.donors[i];
    if (i != 0) out += ", ";
    out += "(" + std::to_string(donor.parameter) + ", ";
    append_path(out, donor.parameter_index);
    out += ")";
  }
  out += " }";
}

void append_header(std::string& out, const HloModule& module) {
  out += "HloModule ";
  append_name(out, module.name);
  append_aliases(out, module);
  append_donors(out, module);
  for (const HloAttribute& attribute : module.attributes) {
    if (is_source_table(attribute.name)) continue;
    out += ", ";
    append_attribute(out, attribute);
  }
  if (module.replica_count) out += ", replica_count=" + std::to_string(*module.replica_count);
  if (module.num_partitions) out += ", num_partitions=" + std::to_string(*module.num_partitions);
  if (!module.frontend_attributes.entries.empty()) {
    out += ", frontend_attributes=";
    append_dictionary(out, module.frontend_attributes, ",");
  }
  out += '\n';
  for (const HloAttribute& attribute : module.attributes)
    if (is_source_table(attribute.name)) append_source_table(out, attribute);
}

void append_payload(std::string& out, const HloComputation& computation,
                    const HloInstruction& instruction) {
  if (instruction.opcode == "parameter") {
    out += std::to_string(instruction.parameter_number);
  } else if (instruction.literal) {
    append_literal(out, *instruction.literal, instruction.shape);
  } else if (!instruction.literal_text.empty()) {
    out += instruction.literal_text;
  } else {
    for (size_t i = 0; i < instruction.operands.size(); ++i) {
      if (i != 0) out += ", ";
      append_name(out, computation.instructions[static_cast<size_t>(instruction.operands[i])].name);
    }
  }
}

void append_computation(std::string& out, const HloComputation& computation, bool is_entry) {
  out += is_entry ? "\nENTRY " : "\n";
  append_name(out, computation.name);
  out += " {\n";
  for (size_t i = 0; i < computation.instructions.size(); ++i) {
    const HloInstruction& instruction = computation.instructions[i];
    out += static_cast<int>(i) == computation.root ? "  ROOT " : "  ";
    append_name(out, instruction.name);
    out += " = ";
    append_shape(out, instruction.shape, true);
    out += ' ';
    out += instruction.opcode;
    out += '(';
    append_payload(out, computation, instruction);
    out += ')';
    for (const HloAttribute& attribute : instruction.attributes) {
      out += ", ";
      append_attribute(out, attribute);
    }
    out += '\n';
  }
  out += "}\n";
}

}  // namespace

std::string print(const HloModule& module) {
  std::string out;
  append_header(out, module);
  for (size_t i = 0; i < module.computations.size(); ++i)
    append_computation(out, module.computations[i], static_cast<int>(i) == module.entry);
  return out;
}

std::string print(const HloShape& shape, bool with_layout) {
  std::string out;
  append_shape(out, shape, with_layout);
  return out;
}

}  // namespace tessera::hlo
