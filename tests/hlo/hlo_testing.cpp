#include "tests/hlo/hlo_testing.h"

#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/ir/verifier.h"
#include "partitioner/hlo/import.h"

namespace tessera::testing {

std::string entry_of(std::string_view body) {
  return cat("HloModule m\n\nENTRY main {\n", body, "\n}\n");
}

std::string round_trip(std::string_view text) {
  const std::string first = hlo::print(hlo::parse(text));
  std::string second;
  try {
    second = hlo::print(hlo::parse(first));
  } catch (const UserError& error) {
    TESSERA_CHECK(false, "the print does not parse: ", error.what(), "\n", first);
  }
  TESSERA_CHECK(first == second, "prints differ:\n", first, "\n", second);
  return first;
}

void take(std::string_view text) {
  const hlo::Imported imported = hlo::import(hlo::parse(round_trip(text)));
  verify(imported.graph, GraphStage::built);
  verify(hlo::simplify_imported(imported.graph), GraphStage::built);
}

std::string refusal(std::string_view text) {
  try {
    hlo::parse(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

const hlo::HloAttributeValue& root_attribute(const hlo::HloModule& module, std::string_view name) {
  const hlo::HloComputation& entry = module.entry_computation();
  const hlo::HloAttribute* attribute =
      entry.instructions[static_cast<size_t>(entry.root)].find(name);
  TESSERA_CHECK(attribute != nullptr, "no attribute ", name);
  return attribute->value;
}

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  TESSERA_CHECK(file.good(), "cannot read ", path);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace tessera::testing
