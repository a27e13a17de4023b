// The reader of factor rules in text.
#include <cctype>
#include <charconv>
#include <map>

#include "core/base/strings.h"
#include "core/ops/custom_call.h"
#include "core/ops/support.h"

namespace tessera::ops {
namespace {

class RuleParser {
 public:
  RuleParser(std::string_view text, std::span<const TensorType> operands,
             std::span<const TensorType> results)
      : text_(text), operands_(operands), results_(results) {}

  FactorRule parse() {
    rule_.operands = tensors(operands_);
    expect("->");
    rule_.results = tensors(results_);
    if (accept("{")) {
      do entry();
      while (accept(","));
      expect("}");
    }
    skip();
    if (at_ != text_.size()) fail("the end");
    sizes(operands_, rule_.operands);
    sizes(results_, rule_.results);
    check(operands_, rule_.operands);
    check(results_, rule_.results);
    return rule_;
  }

 private:
  [[noreturn]] void fail(std::string_view wanted) const {
    throw_user_error("custom_call: factor rule \"", text_, "\" at \"", text_.substr(at_),
                     "\": expected ", wanted, " for ", types_text(operands_), " -> ",
                     types_text(results_));
  }
  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool accept(std::string_view word) {
    skip();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void expect(std::string_view word) {
    if (!accept(word)) fail(cat("'", word, "'"));
  }
  std::string word() {
    skip();
    const size_t start = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
      ++at_;
    if (at_ == start) fail("a name");
    return std::string(text_.substr(start, at_ - start));
  }

  int factor(const std::string& name) {
    const auto [found, is_new] = names_.emplace(name, static_cast<int>(rule_.factors.size()));
    if (is_new) rule_.add(0);  // the size comes later
    return found->second;
  }

  std::vector<TensorFactors> tensors(std::span<const TensorType> types) {
    std::vector<TensorFactors> tensors;
    expect("(");
    if (accept(")")) return finish(tensors, types);
    do tensors.push_back(tensor());
    while (accept(","));
    expect(")");
    return finish(tensors, types);
  }
  std::vector<TensorFactors> finish(std::vector<TensorFactors> tensors,
                                    std::span<const TensorType> types) const {
    if (tensors.size() != types.size()) fail(cat(types.size(), " tensors"));
    for (size_t i = 0; i < types.size(); ++i)
      if (static_cast<int>(tensors[i].size()) != types[i].rank())
        fail(cat(types[i].rank(), " dims for ", types[i]));
    return tensors;
  }
  TensorFactors tensor() {
    TensorFactors dims;
    expect("[");
    if (accept("]")) return dims;
    do {
      dims.emplace_back();
      if (accept("(")) {
        while (!accept(")")) dims.back().push_back(factor(word()));
      } else if (const std::string name = word(); name != "1") {
        dims.back().push_back(factor(name));
      }
    } while (accept(","));
    expect("]");
    return dims;
  }

  // name=8 reduction(max) positional, the size or the rest left out.
  void entry() {
    const auto found = names_.find(word());
    if (found == names_.end()) fail("a factor that stands in the rule");
    Factor& factor = rule_.factors[static_cast<size_t>(found->second)];
    expect("=");
    skip();
    if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      const std::string digits = word();
      std::from_chars(digits.data(), digits.data() + digits.size(), factor.size);
    }
    while (true) {
      if (accept("pass_through")) {
      } else if (accept("need_replication")) {
        factor.kind = FactorKind::need_replication;
      } else if (accept("reduction")) {
        factor.kind = FactorKind::reduction;
        if (!accept("(")) continue;
        const auto kind = parse_reduce_kind(word());
        if (!kind) fail("sum, max or min");
        factor.reduce = *kind;
        expect(")");
      } else {
        return;
      }
    }
  }

  // Sizes that a dim of one factor tells.
  void sizes(std::span<const TensorType> types, const std::vector<TensorFactors>& tensors) {
    for (size_t i = 0; i < types.size(); ++i)
      for (int d = 0; d < types[i].rank(); ++d) {
        const std::vector<int>& dim = tensors[i][static_cast<size_t>(d)];
        if (dim.size() != 1) continue;
        int64_t& size = rule_.factors[static_cast<size_t>(dim[0])].size;
        if (size == 0) size = types[i].shape[d];
      }
  }
  void check(std::span<const TensorType> types, std::vector<TensorFactors>& tensors) {
    for (size_t i = 0; i < types.size(); ++i)
      for (int d = 0; d < types[i].rank(); ++d) {
        int64_t product = 1;
        std::vector<int>& dim = tensors[i][static_cast<size_t>(d)];
        for (int f : dim) product *= rule_.factors[static_cast<size_t>(f)].size;
        if (product != types[i].shape[d])
          throw_user_error("custom_call: factor rule \"", text_, "\": the factors of dim ", d,
                           " of ", types[i], " multiply to ", product);
        if (product == 1) dim.clear();
      }
  }

  std::string_view text_;
  std::span<const TensorType> operands_, results_;
  size_t at_ = 0;
  std::map<std::string, int> names_;
  FactorRule rule_;
};

}  // namespace

FactorRule parse_factor_rule(const std::string& text, std::span<const TensorType> operands,
                             std::span<const TensorType> results) {
  return RuleParser(text, operands, results).parse();
}

}  // namespace tessera::ops
