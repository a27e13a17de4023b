// Reads what text.cpp writes. A cursor over the text; every refusal names the line and what was
// expected there.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <memory>
#include <unordered_map>

#include "core/base/error.h"
#include "core/ir/text.h"

namespace tessera {
namespace {

using OpsByName = std::unordered_map<std::string_view, const OpDef*>;

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  // Blanks, line ends and `//` comments.
  void skip_blanks() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_])))
        ++at_;
      else if (text_.substr(at_, 2) == "//")
        at_ = std::min(text_.find('\n', at_), text_.size());
      else
        break;
    }
  }
  char peek() {
    skip_blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char symbol) {
    if (peek() != symbol) return false;
    ++at_;
    return true;
  }
  void expect(char symbol) {
    if (!accept(symbol)) fail(cat("'", symbol, "'"));
  }
  bool accept_word(std::string_view word) {
    skip_blanks();
    if (!text_.substr(at_).starts_with(word)) return false;
    const size_t end = at_ + word.size();
    if (end < text_.size() && is_word_char(text_[end])) return false;
    at_ = end;
    return true;
  }
  void expect_word(std::string_view word) {
    if (!accept_word(word)) fail(cat("\"", word, "\""));
  }
  std::string_view word(std::string_view what) {
    skip_blanks();
    const size_t start = at_;
    while (at_ < text_.size() && is_word_char(text_[at_])) ++at_;
    if (at_ == start) fail(what);
    return text_.substr(start, at_ - start);
  }
  int64_t integer(std::string_view what) {
    skip_blanks();
    int64_t value = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) fail(what);
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }
  std::string quoted(std::string_view what) {
    if (!accept('"')) fail(cat(what, " in quotes"));
    const size_t end = text_.find('"', at_);
    if (end == std::string_view::npos) fail("a closing '\"'");
    std::string inner(text_.substr(at_, end - at_));
    at_ = end + 1;
    return inner;
  }
  // From here up to one of `stops` outside brackets and quotes; not past it.
  std::string_view balanced_until(std::string_view stops) {
    skip_blanks();
    const size_t start = at_;
    int depth = 0;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (depth == 0 && stops.find(c) != std::string_view::npos) break;
      if (c == '"') {
        at_ = text_.find('"', at_ + 1);
        if (at_ == std::string_view::npos) fail_at(start, "a closing '\"'");
      } else if (c == '[' || c == '{' || c == '(' || c == '<') {
        ++depth;
      } else if (c == ']' || c == '}' || c == ')' || c == '>') {
        if (depth-- == 0) fail("no closing bracket");
      }
    }
    return trim(text_.substr(start, at_ - start));
  }
  // One bracketed group, brackets included.
  std::string_view group(char open, char close) {
    skip_blanks();
    const size_t start = at_;
    expect(open);
    balanced_until(std::string_view(&close, 1));
    expect(close);
    return text_.substr(start, at_ - start);
  }

  size_t position() const { return at_; }
  std::string_view since(size_t start) const { return text_.substr(start, at_ - start); }

  [[noreturn]] void fail(std::string_view wanted) {
    skip_blanks();
    fail_at(at_, wanted);
  }
  [[noreturn]] void fail_at(size_t where, std::string_view wanted) const {
    where = std::min(where, text_.size());
    const size_t end = std::min(text_.find('\n', where), text_.size());
    const std::string_view found = trim(text_.substr(where, std::min<size_t>(end - where, 40)));
    throw_config_error("line ", line_of(where), ": expected ", wanted, ", found ",
                       found.empty() ? "the end" : cat("\"", found, "\""));
  }
  int64_t line_of(size_t where) const {
    return 1 + std::count(text_.begin(), text_.begin() + static_cast<int64_t>(where), '\n');
  }

 private:
  static bool is_word_char(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
  }
  std::string_view text_;
  size_t at_ = 0;
};

class GraphParser {
 public:
  // Regions share the mesh object of the graph around them where the meshes are equal.
  GraphParser(Cursor& cursor, const OpsByName& ops, MeshPtr outer_mesh = nullptr)
      : cursor_(cursor), ops_(ops), outer_mesh_(std::move(outer_mesh)) {}
  Graph parse();

 private:
  // Puts the line in front of what a parser of a part says.
  template <typename Body>
  decltype(auto) located(Body&& body) {
    const size_t where = cursor_.position();
    try {
      return body();
    } catch (const ConfigError& error) {
      throw_config_error("line ", cursor_.line_of(where), ": ", error.what());
    }
  }

  Graph parse_body() {
    cursor_.expect_word("graph");
    graph_.name = cursor_.quoted("a graph name");
    if (cursor_.accept_word("mesh")) {
      const std::string_view text = cursor_.group('<', '>');
      graph_.mesh = located([&] { return std::make_shared<const Mesh>(parse_mesh(text)); });
      if (outer_mesh_ && *outer_mesh_ == *graph_.mesh) graph_.mesh = outer_mesh_;
    }
    graph_.masks_padding = cursor_.accept_word("masked");
    graph_.is_local = cursor_.accept_word("local");
    cursor_.expect('{');
    while (cursor_.peek() == '%') parse_instruction();
    if (cursor_.accept_word("return")) {
      do parse_output();
      while (cursor_.accept(','));
    }
    if (!cursor_.accept('}')) cursor_.fail("an instruction, \"return\" or '}'");
    for (size_t i = 0; i < graph_.inputs.size(); ++i)
      if (!graph_.inputs[i].value.valid())
        cursor_.fail(cat("an instruction marked \"input ", i, "\""));
    return std::move(graph_);
  }

  void parse_instruction() {
    const auto number = static_cast<int64_t>(graph_.instructions.size());
    const size_t start = cursor_.position();
    cursor_.expect('%');
    if (cursor_.integer("an instruction number") != number)
      cursor_.fail_at(start, cat("%", number, " (instructions are numbered in order)"));
    cursor_.expect('=');
    Instruction instruction;
    const size_t op_start = cursor_.position();
    const auto op = ops_.find(cursor_.word("an op name"));
    if (op == ops_.end()) cursor_.fail_at(op_start, "the name of a known op");
    instruction.op = op->second;
    if (cursor_.accept('(') && !cursor_.accept(')')) {
      do instruction.operands.push_back(parse_value());
      while (cursor_.accept(','));
      cursor_.expect(')');
    }
    if (cursor_.accept('{')) parse_attributes(instruction.attributes);
    cursor_.expect(':');
    do instruction.results.push_back(parse_result());
    while (cursor_.accept(','));
    if (cursor_.accept_word("scope")) instruction.scope = cursor_.quoted("a scope");
    instruction.recompute = cursor_.accept_word("recompute");
    if (cursor_.accept_word("factors")) parse_factors(instruction);
    if (cursor_.accept_word("input")) parse_input(static_cast<int>(number));
    graph_.instructions.push_back(std::move(instruction));
  }

  Value parse_value() {
    cursor_.skip_blanks();
    const size_t start = cursor_.position();
    cursor_.expect('%');
    Value value;
    value.instruction = static_cast<int>(cursor_.integer("a value number"));
    if (cursor_.accept(':')) value.result = static_cast<int>(cursor_.integer("a result number"));
    if (value.instruction < 0 || value.instruction >= static_cast<int>(graph_.instructions.size()))
      cursor_.fail_at(start, "a value defined above");
    const auto results = static_cast<int>(graph_.at(value).results.size());
    if (value.result < 0 || value.result >= results)
      cursor_.fail_at(start, cat("one of the ", results, " results of %", value.instruction));
    return value;
  }

  void parse_attributes(Attributes& attributes) {
    do {
      const size_t start = cursor_.position();
      const auto key = parse_attr(cursor_.word("an attribute name"));
      if (!key) cursor_.fail_at(start, "the name of an attribute");
      cursor_.expect('=');
      static const size_t kGraphKind = AttrValue(GraphRef()).index();
      static const size_t kGraphsKind = AttrValue(Graphs()).index();
      if (kind_of(*key) == kGraphKind) {
        attributes.set(*key, parse_region());
      } else if (kind_of(*key) == kGraphsKind) {
        attributes.set(*key, parse_regions());
      } else {
        const std::string_view text = cursor_.balanced_until(",}");
        // Axes of a manual computation are of its own mesh; the callee stands before them.
        const auto* callee = attributes.find(Attr::callee);
        const MeshPtr own = callee ? std::get<GraphRef>(*callee)->mesh : nullptr;
        attributes.set(*key, located([&] {
          return parse_attribute(*key, text, own ? own : graph_.mesh);
        }));
      }
    } while (cursor_.accept(','));
    cursor_.expect('}');
  }

  GraphRef parse_region() {
    Graph region = GraphParser(cursor_, ops_, graph_.mesh).parse();
    return std::make_shared<const Graph>(std::move(region));
  }

  Graphs parse_regions() {
    Graphs regions;
    cursor_.expect('[');
    if (cursor_.accept(']')) return regions;
    do regions.push_back(parse_region());
    while (cursor_.accept(','));
    cursor_.expect(']');
    return regions;
  }

  ResultInfo parse_result() {
    ResultInfo info;
    info.type = parse_type();
    if (cursor_.accept_word("padded")) info.padded_shape = parse_shape();
    if (cursor_.accept_word("logical")) info.logical_shape = parse_shape();
    if (cursor_.peek() == '[') info.sharding = parse_sharding_here();
    if (cursor_.accept_word("axes")) {
      cursor_.expect('(');
      do info.logical_axes.push_back(cursor_.quoted("a logical axis"));
      while (cursor_.accept(','));
      cursor_.expect(')');
    }
    if (cursor_.accept_word("named")) info.name = cursor_.quoted("a tensor name");
    for (;;) {
      if (cursor_.accept_word("shard_as"))
        info.groups.push_back({cursor_.integer("a group id"), ShardingGroup::Kind::as});
      else if (cursor_.accept_word("shard_like"))
        info.groups.push_back({cursor_.integer("a group id"), ShardingGroup::Kind::like});
      else
        break;
    }
    return info;
  }

  TensorType parse_type() {
    cursor_.skip_blanks();
    const size_t start = cursor_.position();
    cursor_.word("a tensor type");
    cursor_.group('[', ']');
    const auto type = parse_tensor_type(cursor_.since(start));
    if (!type) cursor_.fail_at(start, "a tensor type such as f32[8,16]");
    return *type;
  }

  Shape parse_shape() {
    Shape shape;
    cursor_.expect('[');
    if (cursor_.accept(']')) return shape;
    do shape.push_back(cursor_.integer("the size of a dim"));
    while (cursor_.accept(','));
    cursor_.expect(']');
    return shape;
  }

  Sharding parse_sharding_here() {
    if (!graph_.mesh) cursor_.fail("no sharding, as the graph has no mesh");
    cursor_.skip_blanks();
    const size_t start = cursor_.position();
    cursor_.group('[', ']');
    for (const std::string_view part : {"replicated", "partial"})
      if (cursor_.accept_word(part)) cursor_.group('{', '}');
    if (cursor_.accept_word("on")) cursor_.group('<', '>');
    return located([&] { return parse_sharding(graph_.mesh, trim(cursor_.since(start))); });
  }

  void parse_factors(Instruction& instruction) {
    if (!graph_.mesh) cursor_.fail("no factor axes, as the graph has no mesh");
    cursor_.expect('(');
    do {
      const std::string_view text = cursor_.group('{', '}');
      instruction.factor_axes.push_back(located(
          [&] { return std::get<AxisList>(parse_attribute(Attr::axes, text, graph_.mesh)); }));
    } while (cursor_.accept(','));
    cursor_.expect(')');
  }

  void parse_input(int instruction) {
    const size_t start = cursor_.position();
    const int64_t number = cursor_.integer("an input number");
    if (number < 0 || number > (1 << 20)) cursor_.fail_at(start, "an input number");
    const size_t index = static_cast<size_t>(number);
    if (graph_.inputs.size() <= index) graph_.inputs.resize(index + 1);
    if (graph_.inputs[index].value.valid()) cursor_.fail_at(start, "an input number used once");
    cursor_.skip_blanks();
    const size_t word_start = cursor_.position();
    const std::string_view word = cursor_.word("an input kind");
    for (const InputKind kind : {InputKind::data, InputKind::parameter, InputKind::optimizer,
                                 InputKind::accumulator, InputKind::scalar}) {
      if (name_of(kind) != word) continue;
      graph_.inputs[index] = {{instruction, 0}, kind};
      return;
    }
    cursor_.fail_at(word_start, "data, parameter, optimizer, accumulator or scalar");
  }

  void parse_output() {
    GraphOutput output;
    output.value = parse_value();
    cursor_.expect_word("as");
    output.name = cursor_.quoted("an output name");
    if (cursor_.accept_word("over")) {
      cursor_.expect_word("input");
      const size_t start = cursor_.position();
      output.alias_input = static_cast<int>(cursor_.integer("an input number"));
      if (output.alias_input < 0 || output.alias_input >= static_cast<int>(graph_.inputs.size()))
        cursor_.fail_at(start, cat("one of the ", graph_.inputs.size(), " inputs"));
    }
    if (cursor_.peek() == '[') output.sharding = parse_sharding_here();
    graph_.outputs.push_back(std::move(output));
  }

  Cursor& cursor_;
  const OpsByName& ops_;
  MeshPtr outer_mesh_;
  Graph graph_;
};

Graph GraphParser::parse() { return parse_body(); }

}  // namespace

Graph parse_graph(std::string_view text, std::span<const OpDef* const> ops) {
  OpsByName by_name;
  for (const OpDef* op : ops) by_name.emplace(op->name, op);
  Cursor cursor(text);
  Graph graph = GraphParser(cursor, by_name).parse();
  if (cursor.peek() != '\0') cursor.fail("the end after the graph");
  return graph;
}

}  // namespace tessera
