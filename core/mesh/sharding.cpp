#include "core/mesh/sharding.h"

#include <charconv>
#include <ostream>

#include "core/base/error.h"

namespace tessera {

Sharding::Sharding(MeshPtr mesh, int rank, bool open) : mesh(std::move(mesh)) {
  dims.resize(static_cast<size_t>(rank));
  for (DimSharding& dim : dims) dim.open = open;
}

bool Sharding::is_fully_replicated() const {
  if (is_partial()) return false;
  for (const DimSharding& dim : dims)
    if (!dim.axes.empty()) return false;
  return true;
}

AxisList Sharding::used_axes() const {
  AxisList used;
  for (const DimSharding& dim : dims) used.insert(used.end(), dim.axes.begin(), dim.axes.end());
  used.insert(used.end(), partial.begin(), partial.end());
  return used;
}

int64_t Sharding::replication() const { return mesh->devices() / size_of(used_axes()); }

bool Sharding::same_layout(const Sharding& other) const {
  if (rank() != other.rank()) return false;
  for (int d = 0; d < rank(); ++d)
    if (canonical(dims[d].axes) != canonical(other.dims[d].axes)) return false;
  // The order of partial axes does not matter, only the set.
  if (!without(partial, other.partial).empty() || !without(other.partial, partial).empty())
    return false;
  return partial.empty() || partial_kind == other.partial_kind;
}

bool Sharding::operator==(const Sharding& other) const {
  const bool same_mesh = mesh == other.mesh || (mesh && other.mesh && *mesh == *other.mesh);
  return same_mesh && dims == other.dims && replicated == other.replicated &&
         partial == other.partial && (partial.empty() || partial_kind == other.partial_kind);
}

Sharding Sharding::closed() const {
  Sharding result = *this;
  result.replicated.clear();
  for (DimSharding& dim : result.dims) {
    dim.open = false;
    dim.priority = 0;
  }
  return result;
}

Sharding Sharding::without_partial() const {
  Sharding result = *this;
  result.partial.clear();
  return result;
}

int Sharding::indivisible_dim(const Shape& global) const {
  for (int d = 0; d < rank(); ++d)
    if (global[d] % size_of(dims[d].axes) != 0) return d;
  return -1;
}

Shape Sharding::local_shape(const Shape& global) const {
  TESSERA_CHECK(rank() == global.rank(), "sharding ", *this, " for shape ", global);
  Shape local = global;
  for (int d = 0; d < rank(); ++d) {
    const int64_t parts = size_of(dims[d].axes);
    local[d] = (global[d] + parts - 1) / parts;
  }
  return local;
}

Shape Sharding::padded_shape(const Shape& global) const {
  Shape padded = local_shape(global);
  for (int d = 0; d < rank(); ++d) padded[d] *= size_of(dims[d].axes);
  return padded;
}

std::vector<int64_t> Sharding::shard_start(const Shape& global, int64_t device) const {
  const Shape local = local_shape(global);
  std::vector<int64_t> start(dims.size());
  for (int d = 0; d < rank(); ++d)
    start[d] = dims[d].axes.empty() ? 0 : mesh->coordinate(device, dims[d].axes) * local[d];
  return start;
}

void Sharding::verify() const {
  AxisList seen;
  // `where` with `dim`, if there is one: no text is made before it is needed, since every value is verified after every
  // pass.
  auto take = [&](const AxisList& axes, std::string_view where, std::optional<int> dim = std::nullopt) {
    if (axes.empty()) return;
    const auto place = [&] { return dim ? cat(where, " ", *dim) : cat(where); };
    for (const AxisRef& ref : axes) {
      if (overlaps(seen, ref))
        throw_config_error("sharding ", *this, ": axis \"", print_axis(*mesh, ref),
                           "\" is used twice (", place(), ")");
      seen.push_back(ref);
    }
    if (canonical(axes) != axes)
      throw_config_error("sharding ", *this, ": consecutive parts of one axis must be written as one (",
                         place(), ")");
  };
  for (int d = 0; d < rank(); ++d) take(dims[d].axes, "dim", d);
  take(replicated, "replicated");
  take(partial, "partial");
}

std::ostream& operator<<(std::ostream& out, const Sharding& sharding) {
  out << "[";
  for (int d = 0; d < sharding.rank(); ++d) {
    const DimSharding& dim = sharding.dims[d];
    out << (d ? ", " : "") << "{" << (dim.axes.empty() ? "" : print_axes(*sharding.mesh, dim.axes))
        << (dim.open ? (dim.axes.empty() ? "?" : ",?") : "") << "}";
    if (dim.priority != 0) out << "p" << dim.priority;
  }
  out << "]";
  if (!sharding.replicated.empty())
    out << " replicated{" << print_axes(*sharding.mesh, sharding.replicated) << "}";
  if (!sharding.partial.empty())
    out << " partial{" << sharding.partial_kind << ": "
        << print_axes(*sharding.mesh, sharding.partial) << "}";
  return out;
}

namespace {

class ShardingParser {
 public:
  ShardingParser(const MeshPtr& mesh, std::string_view text) : mesh_(mesh), text_(text) {}

  Sharding parse() {
    Sharding sharding(mesh_, 0);
    expect('[');
    if (!accept(']')) {
      do sharding.dims.push_back(parse_dim());
      while (accept(','));
      expect(']');
    }
    if (accept_word("replicated")) {
      expect('{');
      sharding.replicated = parse_axes();
    }
    if (accept_word("partial")) {
      expect('{');
      const size_t colon = text_.find(':', at_);
      if (colon == std::string_view::npos) fail("a combiner and ':'");
      const auto kind = parse_reduce_kind(trim(text_.substr(at_, colon - at_)));
      if (!kind) fail("sum, max or min");
      sharding.partial_kind = *kind;
      at_ = colon + 1;
      sharding.partial = parse_axes();
    }
    skip_blanks();
    if (at_ != text_.size()) fail("the end");
    sharding.verify();
    return sharding;
  }

 private:
  DimSharding parse_dim() {
    DimSharding dim;
    expect('{');
    dim.axes = parse_axes(&dim.open);
    if (accept('p')) {
      const auto [end, error] =
          std::from_chars(text_.data() + at_, text_.data() + text_.size(), dim.priority);
      if (error != std::errc()) fail("a priority after 'p'");
      at_ = static_cast<size_t>(end - text_.data());
    }
    return dim;
  }

  // After '{', up to and with '}'.
  AxisList parse_axes(bool* open = nullptr) {
    AxisList axes;
    if (accept('}')) return axes;
    do {
      if (open && accept('?')) {
        *open = true;
        break;
      }
      skip_blanks();
      const size_t end = text_.find_first_of(",}", at_);
      if (end == std::string_view::npos) fail("'}'");
      axes.push_back(parse_axis(*mesh_, text_.substr(at_, end - at_)));
      at_ = end;
    } while (accept(','));
    expect('}');
    return axes;
  }

  void skip_blanks() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool accept(char symbol) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != symbol) return false;
    ++at_;
    return true;
  }
  bool accept_word(std::string_view word) {
    skip_blanks();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void expect(char symbol) {
    if (!accept(symbol)) fail(cat("'", symbol, "'"));
  }
  [[noreturn]] void fail(std::string_view wanted) {
    throw_config_error("sharding \"", text_, "\": expected ", wanted, " at column ", at_ + 1);
  }

  const MeshPtr& mesh_;
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::string print_sharding(const Sharding& sharding, const Mesh* home) {
  return home && sharding.is_for(*home) ? cat(sharding) : cat(sharding, " on ", *sharding.mesh);
}

Sharding parse_sharding(const MeshPtr& mesh, std::string_view text) {
  const size_t on = text.find(" on <");
  if (on == std::string_view::npos) return ShardingParser(mesh, text).parse();
  const auto other = std::make_shared<const Mesh>(parse_mesh(text.substr(on + 4)));
  return ShardingParser(other, text.substr(0, on)).parse();
}

}  // namespace tessera
