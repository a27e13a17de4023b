#include "launch/config/text_source.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "launch/config/descriptors.h"
#include "launch/config/text_scan.h"

namespace tessera::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

struct Remark {
  int line;  // from 0
  int column;
  std::string text;
};

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& text) override {
    errors.push_back({line, column, text});
  }
  void AddWarning(int line, google::protobuf::io::ColumnNumber column,
                  const std::string& text) override {
    warnings.push_back({line, column, text});
  }

  std::vector<Remark> errors;
  std::vector<Remark> warnings;
};

// The part of `text` between the first `before` and the next `after`; nullopt if they are not
// there.
std::optional<std::string> between(const std::string& text, const std::string& before,
                                   const std::string& after) {
  const size_t begin = text.find(before);
  if (begin == std::string::npos) return std::nullopt;
  const size_t start = begin + before.size();
  const size_t end = after.empty() ? text.size() : text.find(after, start);
  if (end == std::string::npos) return std::nullopt;
  return text.substr(start, end - start);
}

// Turns the parser's remarks into problems in the config's own words, and repairs the text so that
// parsing can go on.
class Repairer {
 public:
  Repairer(std::string text, const std::string& name, const std::string& prefix,
           const Descriptor* root)
      : text_(std::move(text)), name_(name), prefix_(prefix), root_(root) {}

  const std::string& text() const { return text_; }

  // Hands over what was found, in the order of the text.
  void flush(Problems& problems) const {
    for (const auto& [offset, message] : found_) problems.add(message);
  }

  void unknown_field(const Remark& remark) {
    const size_t offset = offset_of(text_, remark.line, remark.column);
    const TextRange word = word_before(text_, offset);
    report(word.begin, unknown_field_message(root_, enclosing_path(text_, word.begin),
                                             text_.substr(word.begin, word.end - word.begin)));
  }

  // True if the text was changed so that it is worth parsing again.
  bool repair(const Remark& remark) {
    const size_t offset = offset_of(text_, remark.line, remark.column);
    if (const auto field = between(remark.text, "Non-repeated field \"", "\"")) {
      return repair_duplicate(offset, *field);
    }
    size_t at = offset;
    auto value = between(remark.text, "Unknown enumeration value of \"", "\"");
    if (!value) value = between(remark.text, "Value: \"", "\"");
    if (value) {  // the parser stands behind the value
      at = text_.rfind(*value, offset == 0 ? 0 : offset - 1);
      if (at == std::string::npos) return raw(remark, offset);
    } else if (!remark.text.starts_with("Expected ") && !remark.text.starts_with("Integer out")) {
      return raw(remark, offset);
    }
    if (offset >= text_.size() && !value) return unclosed(offset, remark);
    return repair_value(remark, at);
  }

 private:
  bool repair_value(const Remark& remark, size_t at) {
    const ValueOwner owner = owner_of_value(text_, at);
    TextRange value = value_at(text_, at);
    const size_t next = text_.find_first_not_of(" \t\r\n", value.end);
    const bool is_next_field =
        next != std::string::npos && (text_[next] == ':' || text_[next] == '{');
    if (is_next_field) value.end = value.begin;  // `steps:` with nothing, then `seed: 1`
    const std::string block = enclosing_path(text_, at);
    const Descriptor* type = descriptor_at(root_, block);
    const FieldDescriptor* field = type && !owner.name.empty()
                                       ? type->FindFieldByName(text_.substr(
                                             owner.name.begin, owner.name.end - owner.name.begin))
                                       : nullptr;
    if (!field) return raw(remark, at);
    const std::string path = joined_path(prefix_, joined_path(block, field->name()));
    const std::string given = text_.substr(value.begin, value.end - value.begin);
    const bool is_enum = field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
    if (remark.text.starts_with("Expected \"") && remark.text.find("found") != std::string::npos &&
        field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return raw(remark, at);  // a missing colon or brace
    }
    if (value.empty()) {
      report(owner.name.begin, cat(path, " has no value; it takes ", wanted(*field)));
    } else if (is_enum && (given[0] != '"' && given[0] != '\'')) {
      report(at, unknown_value_message(*field, path, given));
    } else if (remark.text.starts_with("Integer out")) {
      report(at, cat(path, ": ", given, " does not fit a 64-bit integer"));
    } else {
      report(at, cat(path, " takes ", wanted(*field), ", not ", given));
    }
    if (value.empty() && owner.in_list) return false;
    if (is_next_field) {
      text_ = without_value(text_, value, owner);
      return true;
    }
    if (at < text_.size() && (text_[at] == '{' || text_[at] == '[' || text_[at] == '<'))
      return false;
    text_ = without_value(text_, value, owner);
    return true;
  }

  bool repair_duplicate(size_t offset, const std::string& field) {
    const TextRange word = word_before(text_, offset);
    report(word.begin, cat(joined_path(prefix_, joined_path(enclosing_path(text_, offset), field)),
                           " is given twice"));
    size_t begin = offset;
    while (begin < text_.size() && (text_[begin] == ':' || std::isspace(text_[begin]))) ++begin;
    const TextRange value = value_at(text_, begin);
    if (value.empty()) return false;
    text_ = without_value(text_, value, {word, false});
    return true;
  }

  bool unclosed(size_t offset, const Remark& remark) {
    const std::string block = enclosing_path(text_, offset);
    if (block.empty()) return raw(remark, offset);
    report(offset, cat("the text ends inside `", block, " {`: a closing brace is missing"));
    return false;
  }

  bool raw(const Remark& remark, size_t offset) {
    const std::string block = enclosing_path(text_, offset);
    report(offset, cat("cannot read this", block.empty() ? "" : cat(" part of ", block), ": ",
                       remark.text));
    return false;
  }

  void report(size_t offset, const std::string& message) {
    found_.emplace(offset, cat(name_, ":", line_of(text_, offset), ": ", message));
  }

  std::string text_;
  const std::string& name_;
  const std::string& prefix_;
  const Descriptor* root_;
  std::multimap<size_t, std::string> found_;  // by offset
};

void collect_origins(const Message& message, TextFormat::ParseInfoTree* tree,
                     const std::string& prefix, const std::string& name, Origins& origins) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const int index = field->is_repeated() ? i : -1;
      const std::string path =
          joined_path(prefix, index < 0 ? field->name() : cat(field->name(), "[", i, "]"));
      const auto location = tree ? tree->GetLocation(field, index) : TextFormat::ParseLocation{};
      origins[path] = {Origin::Kind::file, name, location.line + 1, ""};
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      collect_origins(index < 0 ? reflection->GetMessage(message, field)
                                : reflection->GetRepeatedMessage(message, field, i),
                      tree ? tree->GetTreeForNested(field, index) : nullptr, path, name, origins);
    }
  }
}

// proto3 accepts any number for an enum; we only take named ones.
void check_enum_numbers(const Message& message, const std::string& prefix, const Origins& origins,
                        Problems& problems) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string path = joined_path(prefix, field->name());
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
      check_enum_numbers(reflection->GetMessage(message, field), path, origins, problems);
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_ENUM) continue;
    const int number = reflection->GetEnumValue(message, field);
    if (field->enum_type()->FindValueByNumber(number)) continue;
    problems.add(origin_of(origins, path).text(), ": ",
                 unknown_value_message(*field, path, cat(number)));
  }
}

}  // namespace

void parse_text(const std::string& text, const std::string& name, const std::string& prefix,
                Message& message, Origins& origins, Problems& problems) {
  Repairer repairer(text, name, prefix, message.GetDescriptor());
  constexpr int kMaxRepairs = 100;
  std::unique_ptr<TextFormat::ParseInfoTree> tree;
  for (int attempt = 0; attempt <= kMaxRepairs; ++attempt) {
    Collector collector;
    tree = std::make_unique<TextFormat::ParseInfoTree>();
    TextFormat::Parser parser;
    parser.RecordErrorsTo(&collector);
    parser.WriteLocationsTo(tree.get());
    parser.AllowUnknownField(true);  // reported below, all of them
    message.Clear();
    const bool done = parser.ParseFromString(repairer.text(), &message);
    const bool again = !done && !collector.errors.empty() && attempt < kMaxRepairs &&
                       repairer.repair(collector.errors.front());
    if (again) continue;
    for (const Remark& warning : collector.warnings) repairer.unknown_field(warning);
    break;
  }
  repairer.flush(problems);
  collect_origins(message, tree.get(), prefix, name, origins);
  check_enum_numbers(message, prefix, origins, problems);
}

std::string read_config_file(const std::string& path, const std::string& kind) {
  if (std::filesystem::is_directory(path)) {
    throw_config_error(kind, " ", path, " is a folder; name a file in it");
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw_config_error(kind, " ", path, " cannot be read: ", std::strerror(errno),
                       path.starts_with('/')
                           ? ""
                           : cat(" (looked in ", std::filesystem::current_path().string(), ")"));
  }
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

}  // namespace tessera::config
