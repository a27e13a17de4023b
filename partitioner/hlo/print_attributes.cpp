#include "partitioner/hlo/attributes.h"

namespace tessera::hlo {
namespace {

// One value of each kind; the separators are those of XLA's own print.
struct ValuePrinter {
  std::string& out;
  std::string_view name;

  void operator()(bool value) { out += value ? "true" : "false"; }
  void operator()(int64_t value) { out += std::to_string(value); }
  void operator()(double value) { out += print_double(value); }
  void operator()(const std::string& value) { append_quoted(out, value); }
  void operator()(const Name& value) { append_name(out, value.text); }
  void operator()(const Verbatim& value) { out += value.text; }
  void operator()(const HloSharding& value) { out += print(value); }
  void operator()(const ReplicaGroups& value) { out += print(value); }
  void operator()(const Ints& value) { list(value); }

  void operator()(const Names& value) {
    const bool computations = attribute_facts(name).names_computations;
    out += '{';
    for (size_t i = 0; i < value.list.size(); ++i) {
      if (i != 0) out += computations ? ", " : ",";
      append_name(out, value.list[i]);
    }
    out += '}';
  }
  void operator()(const IntLists& value) {
    out += '{';
    for (size_t i = 0; i < value.lists.size(); ++i) {
      if (i != 0) out += ',';
      list(value.lists[i]);
    }
    out += '}';
  }
  void operator()(const Window& value) {
    out += '{';
    field("size", value.size);
    field("stride", value.stride);
    field("pad", value.pad_low, &value.pad_high);
    field("lhs_dilate", value.lhs_dilate);
    field("rhs_dilate", value.rhs_dilate);
    field("rhs_reversal", value.rhs_reversal);
    out += '}';
  }
  void operator()(const DimLabels& value) {
    out += value.input + "_" + value.kernel + "->" + value.output;
  }
  void operator()(const PadConfig& value) {
    for (size_t i = 0; i < value.low.size(); ++i) {
      if (i != 0) out += 'x';
      out += std::to_string(value.low[i]) + "_" + std::to_string(value.high[i]);
      if (value.interior[i] != 0) out += "_" + std::to_string(value.interior[i]);
    }
  }
  void operator()(const SliceRanges& value) {
    out += '{';
    for (size_t i = 0; i < value.start.size(); ++i) {
      if (i != 0) out += ", ";
      out += "[" + std::to_string(value.start[i]) + ":" + std::to_string(value.limit[i]);
      if (value.stride[i] != 1) out += ":" + std::to_string(value.stride[i]);
      out += ']';
    }
    out += '}';
  }
  void operator()(const Dictionary& value) {
    append_dictionary(out, value, name == "metadata" ? " " : ",");
  }

  void list(const Ints& value) {
    out += '{';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i != 0) out += ',';
      out += std::to_string(value[i]);
    }
    out += '}';
  }
  void field(std::string_view key, const Ints& value, const Ints* second = nullptr) {
    if (value.empty()) return;
    if (out.back() != '{') out += ' ';
    out += key;
    out += '=';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i != 0) out += 'x';
      out += std::to_string(value[i]);
      if (second != nullptr) out += "_" + std::to_string((*second)[i]);
    }
  }
};

}  // namespace

void append_dictionary(std::string& out, const Dictionary& dictionary, std::string_view separator) {
  out += '{';
  for (size_t i = 0; i < dictionary.entries.size(); ++i) {
    if (i != 0) out += separator;
    const auto& [key, value] = dictionary.entries[i];
    out += key;
    out += '=';
    out += value;
  }
  out += '}';
}

void append_attribute(std::string& out, const HloAttribute& attribute) {
  out += attribute.name;
  out += '=';
  std::visit(ValuePrinter{out, attribute.name}, attribute.value);
}

}  // namespace tessera::hlo
