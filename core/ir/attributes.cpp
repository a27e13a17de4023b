#include "core/ir/attributes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/ir/regions.h"

namespace tessera {
namespace {

constexpr std::array<std::string_view, 6> kDirections = {"eq", "ne", "lt", "le", "gt", "ge"};

template <typename T>
constexpr size_t kKind = [] {
  size_t index = 0;
  [&]<typename... Ts>(std::variant<Ts...>*) {
    bool found = false;
    ((found || (std::is_same_v<Ts, T> ? (found = true) : (++index, false))), ...);
  }(static_cast<AttrValue*>(nullptr));
  return index;
}();

struct KeyFacts {
  Attr key;
  std::string_view name;
  size_t kind;
};

constexpr std::array kKeys = {
    KeyFacts{Attr::dimension, "dimension", kKind<int64_t>},
    KeyFacts{Attr::dimensions, "dimensions", kKind<Ints>},
    KeyFacts{Attr::shape, "shape", kKind<Ints>},
    KeyFacts{Attr::dtype, "dtype", kKind<DType>},
    KeyFacts{Attr::lhs_contracting, "lhs_contracting", kKind<Ints>},
    KeyFacts{Attr::rhs_contracting, "rhs_contracting", kKind<Ints>},
    KeyFacts{Attr::lhs_batch, "lhs_batch", kKind<Ints>},
    KeyFacts{Attr::rhs_batch, "rhs_batch", kKind<Ints>},
    KeyFacts{Attr::start_indices, "start_indices", kKind<Ints>},
    KeyFacts{Attr::limit_indices, "limit_indices", kKind<Ints>},
    KeyFacts{Attr::strides, "strides", kKind<Ints>},
    KeyFacts{Attr::edge_low, "edge_low", kKind<Ints>},
    KeyFacts{Attr::edge_high, "edge_high", kKind<Ints>},
    KeyFacts{Attr::interior, "interior", kKind<Ints>},
    KeyFacts{Attr::value, "value", kKind<ConstTensor>},
    KeyFacts{Attr::scalar, "scalar", kKind<double>},
    KeyFacts{Attr::reduce_kind, "reduce_kind", kKind<ReduceKind>},
    KeyFacts{Attr::direction, "direction", kKind<CompareDirection>},
    KeyFacts{Attr::name, "name", kKind<std::string>},
    KeyFacts{Attr::index, "index", kKind<int64_t>},
    KeyFacts{Attr::is_approximate, "is_approximate", kKind<bool>},
    KeyFacts{Attr::causal, "causal", kKind<bool>},
    KeyFacts{Attr::scale, "scale", kKind<double>},
    KeyFacts{Attr::window, "window", kKind<int64_t>},
    KeyFacts{Attr::bias_origin, "bias_origin", kKind<int64_t>},
    KeyFacts{Attr::bias_gradient, "bias_gradient", kKind<bool>},
    KeyFacts{Attr::epsilon, "epsilon", kKind<double>},
    KeyFacts{Attr::theta, "theta", kKind<double>},
    KeyFacts{Attr::beta1, "beta1", kKind<double>},
    KeyFacts{Attr::beta2, "beta2", kKind<double>},
    KeyFacts{Attr::weight_decay, "weight_decay", kKind<double>},
    KeyFacts{Attr::weight_decays, "weight_decays", kKind<ConstTensor>},
    KeyFacts{Attr::seed_sites, "seed_sites", kKind<Ints>},
    KeyFacts{Attr::start_counts, "start_counts", kKind<Ints>},
    KeyFacts{Attr::rate, "rate", kKind<double>},
    KeyFacts{Attr::valid_size, "valid_size", kKind<int64_t>},
    KeyFacts{Attr::seed_site, "seed_site", kKind<int64_t>},
    KeyFacts{Attr::vocab_dim, "vocab_dim", kKind<int64_t>},
    KeyFacts{Attr::inverse, "inverse", kKind<bool>},
    KeyFacts{Attr::seed, "seed", kKind<int64_t>},
    KeyFacts{Attr::body, "body", kKind<GraphRef>},
    KeyFacts{Attr::window_dimensions, "window_dimensions", kKind<Ints>},
    KeyFacts{Attr::window_strides, "window_strides", kKind<Ints>},
    KeyFacts{Attr::window_reversal, "window_reversal", kKind<Ints>},
    KeyFacts{Attr::base_dilations, "base_dilations", kKind<Ints>},
    KeyFacts{Attr::window_dilations, "window_dilations", kKind<Ints>},
    KeyFacts{Attr::padding_low, "padding_low", kKind<Ints>},
    KeyFacts{Attr::padding_high, "padding_high", kKind<Ints>},
    KeyFacts{Attr::input_batch_dimension, "input_batch_dimension", kKind<int64_t>},
    KeyFacts{Attr::input_feature_dimension, "input_feature_dimension", kKind<int64_t>},
    KeyFacts{Attr::input_spatial_dimensions, "input_spatial_dimensions", kKind<Ints>},
    KeyFacts{Attr::kernel_input_feature_dimension, "kernel_input_feature_dimension", kKind<int64_t>},
    KeyFacts{Attr::kernel_output_feature_dimension, "kernel_output_feature_dimension", kKind<int64_t>},
    KeyFacts{Attr::kernel_spatial_dimensions, "kernel_spatial_dimensions", kKind<Ints>},
    KeyFacts{Attr::output_batch_dimension, "output_batch_dimension", kKind<int64_t>},
    KeyFacts{Attr::output_feature_dimension, "output_feature_dimension", kKind<int64_t>},
    KeyFacts{Attr::output_spatial_dimensions, "output_spatial_dimensions", kKind<Ints>},
    KeyFacts{Attr::feature_group_count, "feature_group_count", kKind<int64_t>},
    KeyFacts{Attr::batch_group_count, "batch_group_count", kKind<int64_t>},
    KeyFacts{Attr::offset_dims, "offset_dims", kKind<Ints>},
    KeyFacts{Attr::collapsed_slice_dims, "collapsed_slice_dims", kKind<Ints>},
    KeyFacts{Attr::operand_batching_dims, "operand_batching_dims", kKind<Ints>},
    KeyFacts{Attr::start_indices_batching_dims, "start_indices_batching_dims", kKind<Ints>},
    KeyFacts{Attr::start_index_map, "start_index_map", kKind<Ints>},
    KeyFacts{Attr::index_vector_dim, "index_vector_dim", kKind<int64_t>},
    KeyFacts{Attr::slice_sizes, "slice_sizes", kKind<Ints>},
    KeyFacts{Attr::indices_are_sorted, "indices_are_sorted", kKind<bool>},
    KeyFacts{Attr::update_window_dims, "update_window_dims", kKind<Ints>},
    KeyFacts{Attr::inserted_window_dims, "inserted_window_dims", kKind<Ints>},
    KeyFacts{Attr::input_batching_dims, "input_batching_dims", kKind<Ints>},
    KeyFacts{Attr::scatter_indices_batching_dims, "scatter_indices_batching_dims", kKind<Ints>},
    KeyFacts{Attr::scatter_dims_to_operand_dims, "scatter_dims_to_operand_dims", kKind<Ints>},
    KeyFacts{Attr::unique_indices, "unique_indices", kKind<bool>},
    KeyFacts{Attr::is_stable, "is_stable", kKind<bool>},
    KeyFacts{Attr::largest, "largest", kKind<bool>},
    KeyFacts{Attr::k, "k", kKind<int64_t>},
    KeyFacts{Attr::is_exclusive, "is_exclusive", kKind<bool>},
    KeyFacts{Attr::is_reverse, "is_reverse", kKind<bool>},
    KeyFacts{Attr::exponent_bits, "exponent_bits", kKind<int64_t>},
    KeyFacts{Attr::mantissa_bits, "mantissa_bits", kKind<int64_t>},
    KeyFacts{Attr::rng_algorithm, "rng_algorithm", kKind<std::string>},
    KeyFacts{Attr::call_target, "call_target", kKind<std::string>},
    KeyFacts{Attr::rule, "rule", kKind<std::string>},
    KeyFacts{Attr::result_types, "result_types", kKind<std::string>},
    KeyFacts{Attr::total_order, "total_order", kKind<bool>},
    KeyFacts{Attr::backend_config, "backend_config", kKind<std::string>},
    KeyFacts{Attr::score_function, "score_function", kKind<std::string>},
    KeyFacts{Attr::normalize, "normalize", kKind<bool>},
    KeyFacts{Attr::group_count, "group_count", kKind<int64_t>},
    KeyFacts{Attr::condition, "condition", kKind<GraphRef>},
    KeyFacts{Attr::branches, "branches", kKind<Graphs>},
    KeyFacts{Attr::callee, "callee", kKind<GraphRef>},
    KeyFacts{Attr::combiner, "combiner", kKind<GraphRef>},
    KeyFacts{Attr::select, "select", kKind<GraphRef>},
    KeyFacts{Attr::trip_count, "trip_count", kKind<int64_t>},
    KeyFacts{Attr::in_shardings, "in_shardings", kKind<Shardings>},
    KeyFacts{Attr::out_shardings, "out_shardings", kKind<Shardings>},
    KeyFacts{Attr::axes, "axes", kKind<AxisList>},
    KeyFacts{Attr::target_axes, "target_axes", kKind<AxisList>},
    KeyFacts{Attr::shift, "shift", kKind<int64_t>},
    KeyFacts{Attr::wrap, "wrap", kKind<bool>},
    KeyFacts{Attr::split_dimension, "split_dimension", kKind<int64_t>},
    KeyFacts{Attr::concat_dimension, "concat_dimension", kKind<int64_t>},
    KeyFacts{Attr::sharding, "sharding", kKind<Sharding>},
    KeyFacts{Attr::sources, "sources", kKind<Ints>},
};

constexpr bool keys_are_in_order() {
  for (size_t i = 0; i < kKeys.size(); ++i)
    if (static_cast<size_t>(kKeys[i].key) != i) return false;
  return true;
}
static_assert(keys_are_in_order(), "kKeys lists the keys in the order of the enum");

template <typename T>
T parse_whole(std::string_view text, Attr key) {
  T value{};
  text = trim(text);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw_config_error("attribute ", name_of(key), ": \"", text, "\" is not a number");
  return value;
}

// A tensor literal: f32[2]{0.1,2}. Each element prints so that it reads back to the same bits.
std::string print_tensor(const HostTensor& tensor) {
  std::ostringstream out;
  out << tensor.type() << "{";
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (i) out << ",";
    if (tensor.dtype() == DType::c64) {
      const auto value = tensor.get_complex(i);
      out << "(" << print_double(value.real()) << ";" << print_double(value.imag()) << ")";
    } else if (is_float(tensor.dtype())) {
      out << print_double(tensor.get_real(i));
    } else {
      out << tensor.get_int(i);
    }
  }
  out << "}";
  return std::move(out).str();
}

HostTensor parse_tensor(std::string_view text, Attr key) {
  const size_t brace = text.find('{');
  const auto type = brace == std::string_view::npos ? std::nullopt
                                                    : parse_tensor_type(trim(text.substr(0, brace)));
  if (!type || text.back() != '}')
    throw_config_error("attribute ", name_of(key), ": \"", text.substr(0, 40),
                       "\" is not a tensor such as f32[2]{1,2}");
  HostTensor tensor(*type);
  const std::string_view inner = text.substr(brace + 1, text.size() - brace - 2);
  const auto parts = inner.empty() ? std::vector<std::string>{} : split(inner, ',');
  if (static_cast<int64_t>(parts.size()) != tensor.elements())
    throw_config_error("attribute ", name_of(key), ": ", *type, " needs ", tensor.elements(),
                       " elements, got ", parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    if (tensor.dtype() == DType::c64) {
      const auto halves = split(std::string_view(parts[i]).substr(1, parts[i].size() - 2), ';');
      tensor.set_complex(index, {parse_whole<double>(halves.at(0), key), parse_whole<double>(halves.at(1), key)});
    } else if (is_float(tensor.dtype())) {
      tensor.set_real(index, parse_whole<double>(parts[i], key));
    } else {
      tensor.set_int(index, parse_whole<int64_t>(parts[i], key));
    }
  }
  return tensor;
}

AxisList parse_axis_list(std::string_view text, const MeshPtr& mesh, Attr key) {
  if (text.size() < 2 || text.front() != '{' || text.back() != '}' || !mesh)
    throw_config_error("attribute ", name_of(key), ": \"", text, "\" is not axes of a mesh such as {data}");
  AxisList axes;
  const std::string_view inner = trim(text.substr(1, text.size() - 2));
  if (!inner.empty())
    for (const std::string& part : split(inner, ',')) axes.push_back(parse_axis(*mesh, trim(part)));
  return axes;
}

template <typename Enum>
Enum require_enum(std::optional<Enum> value, std::string_view text, Attr key) {
  if (!value) throw_config_error("attribute ", name_of(key), ": unknown value \"", text, "\"");
  return *value;
}

}  // namespace

std::string_view name_of(CompareDirection direction) {
  return kDirections[static_cast<size_t>(direction)];
}

std::string_view name_of(Attr key) { return kKeys[static_cast<size_t>(key)].name; }
size_t kind_of(Attr key) { return kKeys[static_cast<size_t>(key)].kind; }

std::optional<Attr> parse_attr(std::string_view name) {
  for (const KeyFacts& facts : kKeys)
    if (facts.name == name) return facts.key;
  return std::nullopt;
}

void Attributes::set(Attr key, AttrValue value) {
  TESSERA_CHECK(value.index() == kind_of(key), "attribute ", name_of(key), " has another kind");
  auto at = std::lower_bound(entries_.begin(), entries_.end(), key,
                             [](const auto& entry, Attr wanted) { return entry.first < wanted; });
  if (at != entries_.end() && at->first == key) at->second = std::move(value);
  else entries_.emplace(at, key, std::move(value));
}

const AttrValue* Attributes::find(Attr key) const {
  for (const auto& [have, value] : entries_)
    if (have == key) return &value;
  return nullptr;
}

namespace {

bool equal_values(const AttrValue& a, const AttrValue& b) {
  if (a.index() != b.index()) return false;
  if (const auto* tensor = std::get_if<ConstTensor>(&a))
    return *tensor == std::get<ConstTensor>(b) || **tensor == *std::get<ConstTensor>(b);
  // Doubles compare by bits, so that NaN constants equal themselves.
  if (const auto* number = std::get_if<double>(&a))
    return std::bit_cast<uint64_t>(*number) == std::bit_cast<uint64_t>(std::get<double>(b));
  if (const auto* graph = std::get_if<GraphRef>(&a))
    return same_computation(**graph, *std::get<GraphRef>(b));
  if (const auto* graphs = std::get_if<Graphs>(&a))
    return std::ranges::equal(*graphs, std::get<Graphs>(b), [](const GraphRef& x, const GraphRef& y) {
      return same_computation(*x, *y);
    });
  return a == b;
}

size_t mix(size_t seed, size_t value) { return seed ^ (value + 0x9e3779b97f4a7c15u + (seed << 6) + (seed >> 2)); }

size_t hash_value(const AttrValue& value) {
  return std::visit(
      [](const auto& held) -> size_t {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, Ints>) {
          size_t seed = held.size();
          for (int64_t item : held) seed = mix(seed, std::hash<int64_t>()(item));
          return seed;
        } else if constexpr (std::is_same_v<T, ConstTensor>) {
          return std::hash<std::string_view>()(
              {reinterpret_cast<const char*>(held->bytes().data()), held->bytes().size()});
        } else if constexpr (std::is_same_v<T, AxisList>) {
          size_t seed = held.size();
          for (const AxisRef& ref : held) seed = mix(mix(mix(seed, ref.axis), ref.pre), ref.size);
          return seed;
        } else if constexpr (std::is_same_v<T, Sharding>) {
          return held.dims.size();
        } else if constexpr (std::is_same_v<T, Shardings> || std::is_same_v<T, Graphs>) {
          return held.size();
        } else if constexpr (std::is_same_v<T, GraphRef>) {
          return mix(held->instructions.size(), held->outputs.size());
        } else {
          return std::hash<T>()(held);
        }
      },
      value);
}

}  // namespace

bool Attributes::operator==(const Attributes& other) const {
  return entries_.size() == other.entries_.size() &&
         std::equal(entries_.begin(), entries_.end(), other.entries_.begin(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && equal_values(a.second, b.second);
                    });
}

size_t Attributes::hash() const {
  size_t seed = entries_.size();
  for (const auto& [key, value] : entries_)
    seed = mix(mix(seed, static_cast<size_t>(key)), hash_value(value));
  return seed;
}

std::string print_attribute(Attr key, const AttrValue& value, const Mesh* mesh) {
  const std::string text = std::visit(
      [&](const auto& held) -> std::string {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, bool>) return held ? "true" : "false";
        else if constexpr (std::is_same_v<T, double>) return print_double(held);
        else if constexpr (std::is_same_v<T, std::string>) return cat('"', held, '"');
        else if constexpr (std::is_same_v<T, Ints>) return cat("[", join(held, ","), "]");
        else if constexpr (std::is_same_v<T, CompareDirection>) return std::string(name_of(held));
        else if constexpr (std::is_same_v<T, ConstTensor>) return print_tensor(*held);
        else if constexpr (std::is_same_v<T, AxisList>) {
          TESSERA_CHECK(mesh != nullptr, "axes need a mesh to print");
          return cat("{", print_axes(*mesh, held), "}");
        } else if constexpr (std::is_same_v<T, GraphRef> || std::is_same_v<T, Graphs>)
          return "<graph>";  // text.cpp prints bodies
        else if constexpr (std::is_same_v<T, Sharding>) return print_sharding(held, mesh);
        else if constexpr (std::is_same_v<T, Shardings>) {
          std::vector<std::string> texts;
          for (const Sharding& one : held) texts.push_back(print_sharding(one, mesh));
          return cat("(", join(texts, "; "), ")");
        }
        else return cat(held);
      },
      value);
  return cat(name_of(key), "=", text);
}

AttrValue parse_attribute(Attr key, std::string_view text, const MeshPtr& mesh) {
  text = trim(text);
  const size_t kind = kind_of(key);
  if (kind == kKind<bool>) {
    if (text != "true" && text != "false")
      throw_config_error("attribute ", name_of(key), " is true or false, not \"", text, "\"");
    return text == "true";
  }
  if (kind == kKind<int64_t>) return parse_whole<int64_t>(text, key);
  if (kind == kKind<double>) return parse_whole<double>(text, key);
  if (kind == kKind<std::string>) {
    if (text.size() < 2 || text.front() != '"' || text.back() != '"')
      throw_config_error("attribute ", name_of(key), " is quoted text, not ", text);
    return std::string(text.substr(1, text.size() - 2));
  }
  if (kind == kKind<Ints>) {
    if (text.size() < 2 || text.front() != '[' || text.back() != ']')
      throw_config_error("attribute ", name_of(key), " is a list such as [0,1], not ", text);
    Ints values;
    const std::string_view inner = trim(text.substr(1, text.size() - 2));
    if (!inner.empty())
      for (const std::string& part : split(inner, ',')) values.push_back(parse_whole<int64_t>(part, key));
    return values;
  }
  if (kind == kKind<DType>) return require_enum(parse_dtype(text), text, key);
  if (kind == kKind<ReduceKind>) return require_enum(parse_reduce_kind(text), text, key);
  if (kind == kKind<CompareDirection>) {
    const auto at = std::find(kDirections.begin(), kDirections.end(), text);
    return require_enum(at == kDirections.end()
                            ? std::nullopt
                            : std::optional(static_cast<CompareDirection>(at - kDirections.begin())),
                        text, key);
  }
  if (kind == kKind<ConstTensor>) return std::make_shared<const HostTensor>(parse_tensor(text, key));
  if (kind == kKind<AxisList>) return parse_axis_list(text, mesh, key);
  if (kind == kKind<Sharding>) return parse_sharding(mesh, text);
  if (kind == kKind<Shardings>) {
    if (text.size() < 2 || text.front() != '(' || text.back() != ')')
      throw_config_error("attribute ", name_of(key), " is a list such as ([{x}]; [{}]), not ", text);
    Shardings shardings;
    const std::string_view inner = trim(text.substr(1, text.size() - 2));
    if (!inner.empty())
      for (const std::string& part : split(inner, ';'))
        shardings.push_back(parse_sharding(mesh, trim(part)));
    return shardings;
  }
  throw_config_error("attribute ", name_of(key), " cannot be read from \"", text, "\"");
}

}  // namespace tessera
