#include "launch/config/set_flag.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/strings.h"
#include "launch/config/descriptors.h"

namespace tessera::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

struct Step {
  std::string name;
  std::optional<int> index;
};

// Takes "a.b[1].c" apart; nullopt if it is not of that form.
std::optional<std::vector<Step>> parse_path(const std::string& path) {
  std::vector<Step> steps;
  for (const std::string& part : split(path, '.')) {
    const size_t bracket = part.find('[');
    Step step{part.substr(0, bracket), std::nullopt};
    if (step.name.empty()) return std::nullopt;
    if (bracket != std::string::npos) {
      int index = -1;
      const char* begin = part.data() + bracket + 1;
      const char* end = part.data() + part.size();
      const auto [stop, error] = std::from_chars(begin, end, index);
      if (error != std::errc() || stop != end - 1 || *stop != ']' || index < 0) return std::nullopt;
      step.index = index;
    }
    steps.push_back(step);
  }
  return steps;
}

class Silent : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string& text) override {
    if (first.empty()) first = text;
  }
  std::string first;
};

bool is_bare(std::string_view word) {
  return !word.empty() && word.find_first_of("\"'{}[],:\\\n") == std::string_view::npos;
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + '"';
}

// Puts the quotes that textproto wants and a shell makes tedious: output_dir=DIR,
// axes=[data,model].
std::string with_quotes(const std::string& value, const FieldDescriptor& field) {
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING) return value;
  const std::string_view text = trim(value);
  if (!text.empty() && (text.front() == '"' || text.front() == '\'')) return value;
  if (!field.is_repeated() || text.empty() || text.front() != '[' || text.back() != ']') {
    return in_quotes(value);
  }
  std::vector<std::string> words;
  if (trim(text.substr(1, text.size() - 2)).empty()) return "[]";
  for (const std::string& word : split(text.substr(1, text.size() - 2), ',')) {
    if (!is_bare(trim(word))) return value;
    words.push_back(in_quotes(trim(word)));
  }
  return cat("[", join(words), "]");
}

void move_element(Message& to, const FieldDescriptor* field, int index, const Message& from) {
  const auto* source = from.GetReflection();
  const auto* target = to.GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    target->MutableRepeatedMessage(&to, field, index)
        ->CopyFrom(source->GetRepeatedMessage(from, field, 0));
  } else {
    TESSERA_CHECK(field->cpp_type() == FieldDescriptor::CPPTYPE_STRING, "list of ",
                  field->cpp_type_name());
    target->SetRepeatedString(&to, field, index, source->GetRepeatedString(from, field, 0));
  }
}

class Setter {
 public:
  Setter(const std::string& argument, Message& root, Origins& origins, Problems& problems)
      : argument_(argument), root_(root), origins_(origins), problems_(problems) {}

  void apply() {
    const SetParts parts = split_set(argument_);
    const auto steps = parts.path.empty() ? std::nullopt : parse_path(parts.path);
    if (!steps) {
      fail(
          "write path=value or path+=value, with a path like train.steps or sharding.mesh[0].size");
      return;
    }
    Message* block = &root_;
    std::string path;
    for (size_t i = 0; i + 1 < steps->size(); ++i) {
      const FieldDescriptor* field = find(*block, (*steps)[i], path);
      if (!field) return;
      path = joined_path(path, (*steps)[i].name);
      block = enter(block, field, (*steps)[i], path);
      if (!block) return;
    }
    const Step& last = steps->back();
    const FieldDescriptor* field = find(*block, last, path);
    if (!field) return;
    assign(*block, *field, last, joined_path(path, last.name), parts);
  }

 private:
  const FieldDescriptor* find(const Message& block, const Step& step, const std::string& path) {
    const FieldDescriptor* field = block.GetDescriptor()->FindFieldByName(step.name);
    if (!field) fail(unknown_field_message(root_.GetDescriptor(), path, step.name));
    return field;
  }

  // The block that a step leads to; `path` gets its index.
  Message* enter(Message* block, const FieldDescriptor* field, const Step& step,
                 std::string& path) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      fail(path, " takes ", wanted(*field), " and has no fields of its own");
      return nullptr;
    }
    const auto* reflection = block->GetReflection();
    if (!field->is_repeated()) {
      if (!step.index) return reflection->MutableMessage(block, field);
      fail(path, " is not a list; leave out [", *step.index, "]");
      return nullptr;
    }
    if (!step.index) {
      fail(path, " is a list of ", reflection->FieldSize(*block, field), "; say which element, ",
           path, "[0]");
      return nullptr;
    }
    if (!in_range(*block, *field, step, path)) return nullptr;
    path += cat("[", *step.index, "]");
    return reflection->MutableRepeatedMessage(block, field, *step.index);
  }

  bool in_range(const Message& block, const FieldDescriptor& field, const Step& step,
                const std::string& path) {
    const int size = block.GetReflection()->FieldSize(block, &field);
    if (*step.index < size) return true;
    fail(path, " has ", size, size == 1 ? " element" : " elements", size ? ", counted from 0" : "",
         "; add one with ", path, "+=");
    return false;
  }

  void assign(Message& block, const FieldDescriptor& field, const Step& step,
              const std::string& path, const SetParts& parts) {
    if (!field.is_repeated() && (parts.append || step.index)) {
      fail(path, " is not a list; write ", path, "=", parts.value);
      return;
    }
    if (parts.append && step.index) {
      fail("write ", path, "+=", parts.value, ", without an index");
      return;
    }
    if (step.index && !in_range(block, field, step, path)) return;
    std::unique_ptr<Message> fresh(block.New());
    if (!parse_value(parts.value, field, path, *fresh)) return;
    const auto* reflection = block.GetReflection();
    std::string changed = path;
    if (step.index) {
      if (reflection->FieldSize(*fresh, &field) != 1) {
        fail(path, "[", *step.index, "] takes one value, not a list");
        return;
      }
      move_element(block, &field, *step.index, *fresh);
      changed += cat("[", *step.index, "]");
    } else {
      const int before = parts.append ? reflection->FieldSize(block, &field) : 0;
      if (!parts.append) reflection->ClearField(&block, &field);
      block.MergeFrom(*fresh);
      if (parts.append) {
        for (int i = before; i < reflection->FieldSize(block, &field); ++i)
          mark(cat(path, "[", i, "]"));
        return;
      }
    }
    mark(changed);
  }

  void mark(const std::string& path) {
    set_origin(origins_, root_, path, {Origin::Kind::set_flag, "", 0, argument_});
  }

  // Reads `value` as the value of `field` into `fresh`, which then has no other field set.
  bool parse_value(const std::string& value, const FieldDescriptor& field, const std::string& path,
                   Message& fresh) {
    const std::string_view word = trim(value);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM &&
        !field.enum_type()->FindValueByName(std::string(word))) {
      fail(unknown_value_message(field, path, word));
      return false;
    }
    Silent silent;
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&silent);
    const bool read =
        parser.ParseFromString(cat(field.name(), ": ", with_quotes(value, field)), &fresh);
    std::vector<const FieldDescriptor*> set;
    fresh.GetReflection()->ListFields(fresh, &set);
    const bool only_it = std::all_of(set.begin(), set.end(), [&](auto* f) { return f == &field; });
    if (read && only_it && !(word.empty() && !field.is_repeated() && set.empty())) return true;
    const bool is_block = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !word.empty() &&
                          (word.front() == '{' || word.front() == '[');
    if (is_block) {
      fail(path, ": cannot read ", word, ": ", in_our_words(silent.first, field));
    } else {
      fail(path, " takes ", field.is_repeated() ? "a list, or one element, of: " : "",
           wanted(field), ", not ", word.empty() ? "nothing" : word);
    }
    return false;
  }

  // `Message type "tessera.proto.AxisRule" has no field named "axis".` -> `unknown field "axis";
  // ...`.
  static std::string in_our_words(const std::string& text, const FieldDescriptor& field) {
    const std::vector<std::string> parts = split(text, '"');
    const auto* type =
        parts.size() == 5 ? field.file()->pool()->FindMessageTypeByName(parts[1]) : nullptr;
    return type ? unknown_field_message(type, "", parts[3]) : text;
  }

  template <typename... Parts>
  void fail(const Parts&... parts) {
    problems_.add("--set ", argument_, ": ", parts...);
  }

  const std::string& argument_;
  Message& root_;
  Origins& origins_;
  Problems& problems_;
};

}  // namespace

SetParts split_set(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return {};
  const bool append = equals > 0 && argument[equals - 1] == '+';
  return {std::string(trim(argument.substr(0, equals - append))), argument.substr(equals + 1),
          append};
}

void apply_set(const std::string& argument, Message& root, Origins& origins, Problems& problems) {
  Setter(argument, root, origins, problems).apply();
}

}  // namespace tessera::config
