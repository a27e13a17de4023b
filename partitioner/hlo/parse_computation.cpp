#include "partitioner/hlo/parse_computation.h"

#include <unordered_map>

#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/literal.h"
#include "partitioner/hlo/parse_shape.h"

namespace tessera::hlo {
namespace {

class ComputationParser {
 public:
  explicit ComputationParser(Lexer& lexer) : lexer_(lexer) {}

  HloComputation parse() {
    const size_t at = lexer_.position();
    computation_.name = lexer_.name("the name of a computation");
    computation_.line = lexer_.line_of(at);
    read_header();
    lexer_.expect('{', cat("of the computation ", computation_.name));
    while (!lexer_.accept('}')) {
      if (lexer_.at_end())
        lexer_.fail(at, cat("the computation ", computation_.name, " is not closed by \"}\""));
      read_instruction();
    }
    if (computation_.instructions.empty())
      lexer_.fail(at, cat("the computation ", computation_.name, " has no instructions"));
    refuse_unknown();
    if (computation_.root < 0)
      computation_.root = static_cast<int>(computation_.instructions.size()) - 1;
    return std::move(computation_);
  }

 private:
  void read_header() {
    if (lexer_.accept('(')) {
      if (!lexer_.accept(')')) {
        do {
          lexer_.name("the name of a parameter");
          lexer_.expect(':', "after the name of a parameter");
          parse_shape(lexer_);
        } while (lexer_.accept(','));
        if (!lexer_.accept(')')) lexer_.expected("\",\" or \")\" after a parameter");
      }
    }
    if (lexer_.accept("->")) parse_shape(lexer_);
  }

  bool at_root_mark() {
    if (lexer_.peek_word() != "ROOT") return false;
    Lexer ahead = lexer_;
    ahead.word();
    return ahead.peek() != '=';
  }

  void read_instruction() {
    HloInstruction instruction;
    const size_t at = lexer_.position();
    const bool is_root = at_root_mark();
    if (is_root) {
      lexer_.word();
      if (computation_.root >= 0)
        lexer_.fail(at,
                    cat("a second ROOT in ", computation_.name, "; the first is on ",
                        where(computation_.instructions[static_cast<size_t>(computation_.root)])));
      computation_.root = static_cast<int>(computation_.instructions.size());
    }
    const size_t name_at = lexer_.position();
    const std::string_view name = lexer_.name("an instruction, name = shape opcode(operands)");
    instruction.name = name;
    instruction.line = lexer_.line_of(name_at);
    lexer_.expect('=', cat("after the name ", name));
    instruction.shape = parse_shape(lexer_);
    const size_t opcode_at = lexer_.position();
    instruction.opcode = lexer_.word();
    if (instruction.opcode.empty()) lexer_.expected("an opcode", opcode_at);
    lexer_.expect('(', cat("after the opcode ", instruction.opcode));
    read_payload(instruction);
    while (lexer_.accept(',')) read_attribute(instruction);

    const int index = static_cast<int>(computation_.instructions.size());
    const auto [known, is_new] = index_.emplace(name, index);
    if (!is_new)
      lexer_.fail(name_at, cat("the name ", name, " is given already on line ",
                               computation_.instructions[static_cast<size_t>(known->second)].line));
    computation_.instructions.push_back(std::move(instruction));
  }

  // What stands in the parentheses, and the closing one.
  void read_payload(HloInstruction& instruction) {
    if (instruction.opcode == "parameter") {
      const size_t at = lexer_.position();
      instruction.parameter_number = lexer_.integer("the number of a parameter");
      if (instruction.parameter_number < 0) lexer_.fail(at, "a parameter of negative number");
      lexer_.expect(')', "after the number of a parameter");
    } else if (instruction.opcode == "constant") {
      read_constant(instruction);
    } else if (!lexer_.accept(')')) {
      do read_operand(instruction);
      while (lexer_.accept(','));
      if (!lexer_.accept(')')) lexer_.expected("\",\" or \")\" after an operand");
    }
  }

  void read_constant(HloInstruction& instruction) {
    if (has_literal(instruction.shape)) {
      instruction.literal = parse_literal(lexer_, instruction.shape);
      lexer_.expect(')', "after a constant");
      return;
    }
    refuse_elided(lexer_);
    do {
      if (!instruction.literal_text.empty()) instruction.literal_text += ", ";
      instruction.literal_text += lexer_.value("the value of a constant", true);
    } while (lexer_.accept(','));
    lexer_.expect(')', "after a constant");
  }

  void read_operand(HloInstruction& instruction) {
    const size_t at = lexer_.position();
    std::optional<HloShape> shape;
    if (at_shape(lexer_)) shape = parse_shape(lexer_);
    const size_t name_at = lexer_.position();
    const std::string_view name = lexer_.name("the name of an operand");
    const auto known = index_.find(name);
    if (known == index_.end()) {
      if (unknown_name_.empty()) {
        unknown_name_ = name;
        unknown_at_ = name_at;
      }
      instruction.operands.push_back(-1);
      return;
    }
    instruction.operands.push_back(known->second);
    const HloShape& defined = computation_.instructions[static_cast<size_t>(known->second)].shape;
    if (shape && !shape->same_as(defined))
      lexer_.fail(at, cat("the operand ", name, " is written as ", print(*shape, false),
                          ", but is ", print(defined, false)));
  }

  void read_attribute(HloInstruction& instruction) {
    HloAttribute attribute;
    const size_t at = lexer_.position();
    attribute.name = lexer_.name("the name of an attribute");
    attribute.line = lexer_.line_of(at);
    lexer_.expect('=', cat("after the attribute ", attribute.name));
    if (instruction.find(attribute.name) != nullptr)
      lexer_.fail(at, cat("the attribute ", attribute.name, " stands twice"));
    attribute.value = parse_attribute_value(lexer_, attribute.name);
    instruction.attributes.push_back(std::move(attribute));
  }

  void refuse_unknown() {
    if (unknown_name_.empty()) return;
    const auto later = index_.find(unknown_name_);
    if (later == index_.end())
      lexer_.fail(unknown_at_,
                  cat("the operand ", unknown_name_, " is no instruction of ", computation_.name));
    const HloInstruction& defined = computation_.instructions[static_cast<size_t>(later->second)];
    lexer_.fail(unknown_at_, cat("the operand ", unknown_name_, " is used before line ",
                                 defined.line, " defines it"));
  }

  Lexer& lexer_;
  HloComputation computation_;
  std::unordered_map<std::string_view, int> index_;
  std::string_view unknown_name_;  // the first operand that is not defined before its use
  size_t unknown_at_ = 0;
};

}  // namespace

HloComputation parse_computation(Lexer& lexer) { return ComputationParser(lexer).parse(); }

}  // namespace tessera::hlo
