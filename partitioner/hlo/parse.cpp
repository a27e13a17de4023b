// The module: its attributes, the tables of source locations, and its computations.
#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/check_module.h"
#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"
#include "partitioner/hlo/parse_computation.h"
#include "partitioner/hlo/source_tables.h"

namespace tessera::hlo {
namespace {

// (1, {}, may-alias): the parameter and the path into it; what follows is left to the caller.
int64_t read_parameter_path(Lexer& lexer, Ints& path) {
  lexer.expect('(', "before a parameter and the path into it");
  const int64_t parameter = lexer.integer("the number of a parameter");
  lexer.expect(',', "after the number of a parameter");
  path = lexer.integers("an index into a tuple");
  return parameter;
}

std::vector<HloAlias> read_aliases(Lexer& lexer) {
  std::vector<HloAlias> result;
  lexer.expect('{', "before aliases");
  if (lexer.accept('}')) return result;
  do {
    HloAlias alias;
    alias.output_index = lexer.integers("an index into a tuple");
    lexer.expect(':', "after the path into the result");
    alias.parameter = read_parameter_path(lexer, alias.parameter_index);
    if (lexer.accept(',')) {
      const size_t at = lexer.position();
      const std::string_view kind = lexer.word();
      if (kind != "may-alias" && kind != "must-alias")
        lexer.expected("may-alias or must-alias", at);
      alias.must = kind == "must-alias";
    }
    lexer.expect(')', "after an alias");
    result.push_back(std::move(alias));
  } while (lexer.accept(','));
  if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" after an alias");
  return result;
}

std::vector<HloDonor> read_donors(Lexer& lexer) {
  std::vector<HloDonor> result;
  lexer.expect('{', "before donors");
  if (lexer.accept('}')) return result;
  do {
    HloDonor donor;
    donor.parameter = read_parameter_path(lexer, donor.parameter_index);
    lexer.expect(')', "after a donor");
    result.push_back(std::move(donor));
  } while (lexer.accept(','));
  if (!lexer.accept('}')) lexer.expected("\",\" or \"}\" after a donor");
  return result;
}

class ModuleParser {
 public:
  explicit ModuleParser(std::string_view text) : lexer_(text) {}

  HloModule parse() {
    read_header();
    read_source_tables(lexer_, module_.attributes);
    while (!lexer_.at_end()) read_computation();
    if (module_.computations.empty()) lexer_.expected("a computation");
    if (module_.entry < 0)
      lexer_.fail(lexer_.position(),
                  "the module has no ENTRY computation; put ENTRY before its name");
    order_computations(module_);
    check_module(module_);
    return std::move(module_);
  }

 private:
  void read_header() {
    const size_t at = lexer_.position();
    if (lexer_.word() != "HloModule") refuse_start(at);
    module_.name = lexer_.name("the name of the module");
    while (lexer_.accept(',')) read_module_attribute();
  }

  [[noreturn]] void refuse_start(size_t at) {
    if (lexer_.peek() == '@')
      lexer_.fail(at,
                  "this is StableHLO (MLIR), not HLO text; in JAX, print it with "
                  "lowered.as_text(dialect=\"hlo\")");
    lexer_.expected("HloModule", at);
  }

  void read_module_attribute() {
    const size_t at = lexer_.position();
    const std::string name(lexer_.name("the name of an attribute of the module"));
    lexer_.expect('=', cat("after the attribute ", name));
    for (const std::string& known : names_)
      if (known == name) lexer_.fail(at, cat("the attribute ", name, " stands twice"));
    if (is_source_table(name)) lexer_.fail(at, cat(name, " is a table, not an attribute"));
    names_.push_back(name);
    if (name == "input_output_alias") {
      module_.aliases = read_aliases(lexer_);
    } else if (name == "buffer_donor") {
      module_.donors = read_donors(lexer_);
    } else if (name == "num_partitions") {
      module_.num_partitions = read_count();
    } else if (name == "replica_count") {
      module_.replica_count = read_count();
    } else if (name == "frontend_attributes") {
      module_.frontend_attributes = parse_dictionary(lexer_);
    } else {
      const int line = lexer_.line_of(at);
      module_.attributes.push_back({name, parse_attribute_value(lexer_, name), line});
    }
  }

  int64_t read_count() {
    const size_t at = lexer_.position();
    const int64_t count = lexer_.integer("a positive integer");
    if (count < 1) lexer_.fail(at, cat("expected a positive integer, not ", count));
    return count;
  }

  void read_computation() {
    const size_t at = lexer_.position();
    if (lexer_.peek_word() == "ENTRY") {
      lexer_.word();
      if (module_.entry >= 0)
        lexer_.fail(at, cat("a second ENTRY; the first is ", module_.entry_computation().name));
      module_.entry = static_cast<int>(module_.computations.size());
    }
    module_.computations.push_back(parse_computation(lexer_));
    // }, execution_thread="main": of no meaning here.
    while (lexer_.accept(',')) {
      const std::string name(lexer_.name("the name of an attribute of a computation"));
      lexer_.expect('=', cat("after the attribute ", name));
      parse_attribute_value(lexer_, name);
    }
  }

  Lexer lexer_;
  HloModule module_;
  std::vector<std::string> names_;  // of the module's attributes
};

}  // namespace

HloModule parse(std::string_view text) { return ModuleParser(text).parse(); }

}  // namespace tessera::hlo
