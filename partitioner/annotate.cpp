#include "partitioner/annotate.h"

#include <algorithm>
#include <regex>
#include <set>

#include "core/base/error.h"
#include "core/ir/parameter.h"

namespace tessera {
namespace {

struct CompiledRule {
  std::string logical;
  AxisList axes;
  bool if_divides = false;
  std::string text;  // "parameter rule mlp -> model"
  int matched = 0;   // tensors with such a dim
};

struct CompiledOverride {
  std::regex regex;
  const ShardingOverride* config;
  std::vector<AxisList> dims;
  int matched = 0;
};

class Annotator {
 public:
  Annotator(const Graph& source, const MeshPtr& mesh, const ShardingConfig& config,
            Origins* origins, AnnotateNotes* notes)
      : graph_(source),
        mesh_(mesh),
        origins_(origins),
        notes_(notes),
        parameter_rules_(compile(config.parameter_rules, "parameter")),
        activation_rules_(compile(config.activation_rules, "activation")),
        optimizer_rules_(config.optimizer_rules.empty()
                             ? parameter_rules_
                             : compile(config.optimizer_rules, "optimizer")) {
    for (const ShardingOverride& entry : config.overrides) compile_override(entry);
    for (const CompiledRule& rule : activation_rules_)
      if (rule.logical == "batch" && batch_axes_.empty()) batch_axes_ = rule.axes;
  }

  Graph run() {
    graph_.mesh = mesh_;
    for (const GraphInput& input : graph_.inputs) {
      annotate_input(input);
      const ResultInfo& info = graph_.info(input.value);
      if (input.kind == InputKind::parameter && !info.logical_axes.empty())
        weights_.insert({info.logical_axes, cat(info.type.shape)});
    }
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      Instruction& instruction = graph_.instructions[i];
      if (instruction.is(ops::kParameter)) continue;
      for (size_t r = 0; r < instruction.results.size(); ++r)
        annotate_activation({static_cast<int>(i), static_cast<int>(r)});
    }
    for (GraphOutput& output : graph_.outputs)
      if (output.alias_input >= 0 && !output.sharding)
        output.sharding =
            graph_.sharding(graph_.inputs[static_cast<size_t>(output.alias_input)].value);
    check_use();
    return std::move(graph_);
  }

 private:
  AxisList compile_axes(const std::vector<std::string>& names) const {
    AxisList axes;
    for (const std::string& name : names) axes.push_back(parse_axis(*mesh_, name));
    return canonical(axes);  // axes of size 1 shard nothing
  }

  std::vector<CompiledRule> compile(const std::vector<AxisRule>& rules,
                                    std::string_view what) const {
    std::vector<CompiledRule> compiled;
    for (const AxisRule& rule : rules) {
      const std::string text =
          cat(what, " rule ", rule.logical, " -> ",
              rule.mesh_axes.empty() ? "(replicated)" : join(rule.mesh_axes, ","));
      try {
        compiled.push_back({rule.logical, compile_axes(rule.mesh_axes), rule.if_divides, text, 0});
      } catch (const ConfigError& error) {
        throw_config_error("sharding: ", text, ": ", error.what());
      }
    }
    return compiled;
  }

  void compile_override(const ShardingOverride& entry) {
    CompiledOverride compiled{{}, &entry, {}, 0};
    try {
      compiled.regex = std::regex(entry.tensor_regex, std::regex::ECMAScript);
    } catch (const std::regex_error& error) {
      throw_config_error("sharding override \"", entry.tensor_regex,
                         "\" is not a regular expression: ", error.what());
    }
    try {
      for (const auto& names : entry.dims) compiled.dims.push_back(compile_axes(names));
    } catch (const ConfigError& error) {
      throw_config_error("sharding override \"", entry.tensor_regex, "\": ", error.what());
    }
    overrides_.push_back(std::move(compiled));
  }

  void annotate_input(const GraphInput& input) {
    ResultInfo& info = graph_.info(input.value);
    if (!info.sharding) info.sharding = Sharding(mesh_, info.type.rank());
    if (input.kind == InputKind::scalar) return;
    std::vector<CompiledRule>& rules = input.kind == InputKind::data        ? activation_rules_
                                       : input.kind == InputKind::optimizer ? optimizer_rules_
                                                                            : parameter_rules_;
    place(input.value, rules);
    if (input.kind != InputKind::accumulator || info.sharding->is_partial()) return;
    info.sharding->partial = without(batch_axes_, info.sharding->used_axes());
    std::sort(info.sharding->partial.begin(), info.sharding->partial.end());
    info.sharding->partial = canonical(info.sharding->partial);
  }

  void annotate_activation(Value value) {
    ResultInfo& info = graph_.info(value);
    if (info.sharding) return;
    info.sharding = Sharding(mesh_, info.type.rank(), true);
    // What has the shape and the names of a parameter is a gradient or an update of one.
    const bool is_weight = weights_.count({info.logical_axes, cat(info.type.shape)}) > 0;
    place(value, is_weight ? parameter_rules_ : activation_rules_);
  }

  // By the first override that matches, else by the rules in their order.
  void place(Value value, std::vector<CompiledRule>& rules) {
    const ResultInfo& info = graph_.info(value);
    if (!info.name.empty())
      for (CompiledOverride& entry : overrides_)
        if (std::regex_match(info.name, entry.regex)) {
          ++entry.matched;
          return apply_override(value, entry);
        }
    if (info.logical_axes.empty()) return;
    std::vector<bool> placed(info.logical_axes.size(), false);
    for (CompiledRule& rule : rules) {
      const int dim = free_dim(info.logical_axes, placed, rule);
      if (dim >= 0) try_rule(value, dim, rule, placed);
    }
  }

  static int free_dim(const std::vector<std::string>& logical, const std::vector<bool>& placed,
                      CompiledRule& rule) {
    for (size_t d = 0; d < logical.size(); ++d) {
      if (logical[d] != rule.logical) continue;
      ++rule.matched;
      if (!placed[d]) return static_cast<int>(d);
    }
    return -1;
  }

  void try_rule(Value value, int dim, const CompiledRule& rule, std::vector<bool>& placed) {
    ResultInfo& info = graph_.info(value);
    Sharding& sharding = *info.sharding;
    const int64_t size = info.type.shape[dim];
    if (overlaps(sharding.used_axes(), rule.axes)) return;
    if (size > 1 && size % size_of(rule.axes) != 0) {
      if (!rule.if_divides) refuse(value, dim, rule.logical, rule.axes, rule.text);
      note(cat(describe(graph_, value), ": dim ", dim, " (", rule.logical, ") of size ", size,
               " is not a multiple of ", size_of(rule.axes), "; ", rule.text,
               " skipped (if_divides)"));
      return;
    }
    placed[static_cast<size_t>(dim)] = true;
    sharding.dims[static_cast<size_t>(dim)].open = false;
    if (size > 1) set_axes(value, dim, rule.axes, rule.text);
  }

  void apply_override(Value value, const CompiledOverride& entry) {
    ResultInfo& info = graph_.info(value);
    const std::string text = cat("override \"", entry.config->tensor_regex, "\"");
    if (static_cast<int>(entry.dims.size()) != info.type.rank())
      throw_config_error("sharding ", text, " gives ", entry.dims.size(), " dims, but ",
                         describe(graph_, value), " is ", info.type, "; give ", info.type.rank());
    for (int d = 0; d < info.type.rank(); ++d) {
      info.sharding->dims[static_cast<size_t>(d)].open = false;
      const AxisList& axes = entry.dims[static_cast<size_t>(d)];
      if (info.type.shape[d] == 1) continue;
      if (info.type.shape[d] % size_of(axes) != 0)
        refuse(value, d, info.logical_axes.empty() ? "" : info.logical_axes[static_cast<size_t>(d)],
               axes, text);
      set_axes(value, d, axes, text);
    }
    info.sharding->verify();
  }

  void set_axes(Value value, int dim, const AxisList& axes, const std::string& text) {
    graph_.info(value).sharding->dims[static_cast<size_t>(dim)].axes = axes;
    if (origins_ && !axes.empty()) origins_->add(value, {dim, axes, text, {}, -1, -1});
  }

  [[noreturn]] void refuse(Value value, int dim, const std::string& logical, const AxisList& axes,
                           const std::string& text) const {
    std::vector<std::string> sizes;
    for (const AxisRef& ref : axes)
      sizes.push_back(cat("\"", print_axis(*mesh_, ref), "\" of size ", ref.size));
    throw_config_error("tensor ", describe(graph_, value), " ", graph_.type(value), ": dim ", dim,
                       logical.empty() ? "" : cat(" (", logical, ")"), " of size ",
                       graph_.type(value).shape[dim], " is not divisible by ", size_of(axes),
                       ", the size of mesh axis ", join(sizes, " times "), " (", text,
                       "). Change the size or the mesh, or set if_divides on the rule to leave "
                       "such tensors whole");
  }

  void note(std::string text) {
    if (notes_) notes_->warnings.push_back(std::move(text));
  }

  // Only a graph with optimizer state holds every tensor of a job: what an override misses in an
  // evaluation may well be a moment.
  void check_use() {
    const bool has_all =
        std::any_of(graph_.inputs.begin(), graph_.inputs.end(),
                    [](const GraphInput& input) { return input.kind == InputKind::optimizer; });
    for (const CompiledOverride& entry : overrides_) {
      if (entry.matched > 0) continue;
      if (!has_all) {
        note(cat("sharding override \"", entry.config->tensor_regex,
                 "\" matches no tensor of graph \"", graph_.name, "\""));
        continue;
      }
      std::vector<std::string> names;
      for (const GraphInput& input : graph_.inputs) names.push_back(graph_.info(input.value).name);
      const std::string nearest = nearest_name(entry.config->tensor_regex, names);
      throw_config_error("sharding override \"", entry.config->tensor_regex,
                         "\" matches no tensor; it must match a whole name",
                         nearest.empty()
                             ? (names.empty() ? "" : cat(", such as \"", names.back(), "\""))
                             : cat("; did you mean \"", nearest, "\"?"));
    }
    for (const auto* rules : {&parameter_rules_, &activation_rules_, &optimizer_rules_})
      for (const CompiledRule& rule : *rules)
        if (rule.matched == 0 &&
            rule.text.rfind(rules == &optimizer_rules_ ? "optimizer" : "", 0) == 0)
          note(cat(rule.text, " matches no tensor"));
  }

  Graph graph_;
  MeshPtr mesh_;
  Origins* origins_;
  AnnotateNotes* notes_;
  std::vector<CompiledRule> parameter_rules_, activation_rules_, optimizer_rules_;
  std::vector<CompiledOverride> overrides_;
  AxisList batch_axes_;
  std::set<std::pair<std::vector<std::string>, std::string>> weights_;  // logical axes, shape
};

}  // namespace

Graph annotate(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
               Origins* origins, AnnotateNotes* notes) {
  return Annotator(graph, mesh, config, origins, notes).run();
}

}  // namespace tessera
