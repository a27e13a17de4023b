#include "partitioner/annotate.h"

#include <algorithm>
#include <regex>
#include <set>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ops/control.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

struct CompiledRule {
  std::string logical;
  AxisList axes;
  bool if_divides = false;
  int priority = 0;
  std::string text;  // "parameter rule mlp -> model"
  int matched = 0;   // tensors with such a dim
};

struct CompiledOverride {
  std::regex regex;
  const ShardingOverride* config;
  std::vector<AxisList> dims;
  std::vector<bool> open;
  int matched = 0;
};

struct CompiledGroup {
  std::vector<std::regex> regexes;
  const TensorGroup* config;
  int64_t id;
  int matched = 0;
};

std::regex compile_regex(const std::string& text, std::string_view what) {
  try {
    return std::regex(text, std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    throw_config_error("sharding ", what, " \"", text, "\" is not a regular expression: ",
                       error.what());
  }
}

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
    for (const TensorGroup& group : config.groups) compile_group(group);
    for (const CompiledRule& rule : activation_rules_)
      if (rule.logical == "batch" && batch_axes_.empty()) batch_axes_ = rule.axes;
  }

  Graph run() {
    graph_.mesh = mesh_;
    check_given(graph_);
    for (const GraphInput& input : graph_.inputs) {
      annotate_input(input);
      const ResultInfo& info = graph_.info(input.value);
      if (input.kind == InputKind::parameter && !info.logical_axes.empty())
        weights_.insert({info.logical_axes, cat(info.type.shape)});
    }
    annotate_instructions();
    for (GraphOutput& output : graph_.outputs)
      if (output.alias_input >= 0 && !output.sharding)
        output.sharding =
            graph_.sharding(graph_.inputs[static_cast<size_t>(output.alias_input)].value);
    check_use();
    return std::move(graph_);
  }

 private:
  // All values that are no inputs, those of regions included.
  void annotate_instructions() {
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      if (!graph_.instructions[i].is(ops::kParameter))
        for (size_t r = 0; r < graph_.instructions[i].results.size(); ++r)
          annotate_activation({index, static_cast<int>(r)});
      if (!has_control_flow(graph_.instructions[i])) continue;
      const std::vector<Region> regions = control_regions(graph_.instructions[i]);
      size_t number = 0;
      Instruction instruction = graph_.instructions[i];
      const AxisList around = manual_;
      if (instruction.is(ops::kManualComputation))
        manual_ = concat(manual_, without(instruction.attributes.get<AxisList>(Attr::axes), manual_));
      map_regions(instruction, [&](const Graph& region) {
        return annotate_region(region, region_path(path_, index, regions[number++]));
      });
      manual_ = around;
      graph_.instructions[i] = std::move(instruction);
    }
  }

  // Inputs of a region are open: their lying comes from outside and from their uses.
  Graph annotate_region(const Graph& region, const std::string& path) {
    Graph outer = std::exchange(graph_, region);
    const std::string outer_path = std::exchange(path_, path);
    graph_.mesh = mesh_;
    check_given(graph_);
    for (const GraphInput& input : graph_.inputs) {
      ResultInfo& info = graph_.info(input.value);
      if (!info.sharding) info.sharding = Sharding(mesh_, info.type.rank(), true);
    }
    annotate_instructions();
    path_ = outer_path;
    return std::exchange(graph_, std::move(outer));
  }

  // Shardings that the program itself states.
  void check_given(const Graph& graph) const {
    for (size_t i = 0; i < graph.instructions.size(); ++i)
      for (size_t r = 0; r < graph.instructions[i].results.size(); ++r) {
        const ResultInfo& info = graph.instructions[i].results[r];
        if (!info.sharding) continue;
        const Place place({static_cast<int>(i), static_cast<int>(r)});
        check_sharding(*info.sharding, info.type, [&] {
          return cat(graph.instructions[i].op->name, " ", describe(graph, place.value),
                     graph.instructions[i].scope.empty()
                         ? ""
                         : cat(" in ", graph.instructions[i].scope));
        });
      }
    for (const GraphOutput& output : graph.outputs)
      if (output.sharding)
        check_sharding(*output.sharding, graph.type(output.value),
                       [&] { return cat("output \"", output.name, "\""); });
  }

  template <typename Who>
  void check_sharding(const Sharding& sharding, const TensorType& type, const Who& who) const {
    if (sharding.rank() != type.rank())
      throw_config_error("sharding ", sharding, " of ", who(), " has ", sharding.rank(),
                         " dims, but the tensor is ", type, "; give one entry per dim");
    if (sharding.mesh && !(*sharding.mesh == *mesh_))
      throw_config_error("sharding ", sharding, " of ", who(), " is for mesh ", *sharding.mesh,
                         ", but the program is partitioned for ", *mesh_);
    auto check_axes = [&](const AxisList& axes) {
      for (const AxisRef& ref : axes) {
        if (ref.axis < 0 || ref.axis >= mesh_->rank())
          throw_config_error("sharding of ", who(), " uses mesh axis number ", ref.axis, ", but ",
                             *mesh_, " has ", mesh_->rank(), " axes");
        const MeshAxis& axis = mesh_->axes()[static_cast<size_t>(ref.axis)];
        if (ref.pre < 1 || ref.size < 1 || axis.size % (ref.pre * ref.size) != 0)
          throw_config_error("sharding of ", who(), " uses sub-axis ", print_axis(*mesh_, ref),
                             ", but ", ref.pre, " x ", ref.size, " does not divide the size ",
                             axis.size, " of mesh axis \"", axis.name, "\"");
      }
    };
    for (const DimSharding& dim : sharding.dims) check_axes(dim.axes);
    check_axes(sharding.replicated);
    check_axes(sharding.partial);
    try {
      sharding.verify();
    } catch (const ConfigError& error) {
      throw_config_error("sharding of ", who(), ": ", error.what());
    }
    check_manual(sharding, who);
  }

  // Inside of a manual computation a tensor is what one coordinate of the manual axes holds.
  template <typename Who>
  void check_manual(const Sharding& sharding, const Who& who) const {
    for (const AxisRef& ref : sharding.used_axes())
      if (overlaps(manual_, ref))
        throw_config_error("sharding ", sharding, " of ", who(), " uses axis \"", print_axis(*mesh_, ref),
                           "\", which is manual in the computation around it: there a tensor is what "
                           "one coordinate of the axis holds; leave the axis out");
  }

  void compile_group(const TensorGroup& group) {
    CompiledGroup compiled{{}, &group, static_cast<int64_t>(groups_.size())};
    for (const std::string& text : group.tensor_regexes)
      compiled.regexes.push_back(compile_regex(text, "group"));
    groups_.push_back(std::move(compiled));
  }

  // Groups of the config get ids above those of the program.
  void join_groups(Value value) {
    ResultInfo& info = graph_.info(value);
    if (info.name.empty() || groups_.empty()) return;
    if (first_group_ < 0) {
      first_group_ = 0;
      for_each_region(graph_, [&](const Graph& graph) {
        for (const Instruction& instruction : graph.instructions)
          for (const ResultInfo& result : instruction.results)
            for (const ShardingGroup& group : result.groups)
              first_group_ = std::max(first_group_, group.id + 1);
      });
    }
    for (CompiledGroup& group : groups_)
      for (const std::regex& regex : group.regexes)
        if (std::regex_match(info.name, regex)) {
          ++group.matched;
          info.groups.push_back({first_group_ + group.id, group.config->is_strict
                                                              ? ShardingGroup::Kind::as
                                                              : ShardingGroup::Kind::like});
          break;
        }
  }

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
        compiled.push_back({rule.logical, compile_axes(rule.mesh_axes), rule.if_divides,
                            static_cast<int>(rule.priority), text, 0});
      } catch (const ConfigError& error) {
        throw_config_error("sharding: ", text, ": ", error.what());
      }
    }
    return compiled;
  }

  void compile_override(const ShardingOverride& entry) {
    CompiledOverride compiled{compile_regex(entry.tensor_regex, "override"), &entry, {}, {}, 0};
    try {
      for (std::vector<std::string> names : entry.dims) {
        compiled.open.push_back(!names.empty() && names.back() == "?");
        if (compiled.open.back()) names.pop_back();
        compiled.dims.push_back(compile_axes(names));
      }
    } catch (const ConfigError& error) {
      throw_config_error("sharding override \"", entry.tensor_regex, "\": ", error.what());
    }
    overrides_.push_back(std::move(compiled));
  }

  void annotate_input(const GraphInput& input) {
    ResultInfo& info = graph_.info(input.value);
    if (!info.sharding) info.sharding = Sharding(mesh_, info.type.rank());
    join_groups(input.value);
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
    join_groups(value);
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
    if (size > 1 && size % size_of(rule.axes) != 0 && rule.if_divides) {
      note(cat(describe(graph_, value), ": dim ", dim, " (", rule.logical, ") of size ", size,
               " is not a multiple of ", size_of(rule.axes), "; ", rule.text,
               " skipped (if_divides)"));
      return;
    }
    placed[static_cast<size_t>(dim)] = true;
    sharding.dims[static_cast<size_t>(dim)].open = false;
    sharding.dims[static_cast<size_t>(dim)].priority = rule.priority;
    if (size > 1) set_axes(value, dim, without(rule.axes, manual_), rule.text);
  }

  void apply_override(Value value, const CompiledOverride& entry) {
    ResultInfo& info = graph_.info(value);
    const std::string text = cat("override \"", entry.config->tensor_regex, "\"");
    if (static_cast<int>(entry.dims.size()) != info.type.rank())
      throw_config_error("sharding ", text, " gives ", entry.dims.size(), " dims, but ",
                         describe(graph_, value), " is ", info.type, "; give ", info.type.rank());
    for (int d = 0; d < info.type.rank(); ++d) {
      info.sharding->dims[static_cast<size_t>(d)].open = entry.open[static_cast<size_t>(d)];
      info.sharding->dims[static_cast<size_t>(d)].priority =
          static_cast<int>(entry.config->priority);
      const AxisList& axes = entry.dims[static_cast<size_t>(d)];
      if (info.type.shape[d] == 1) continue;
      set_axes(value, d, axes, text);
    }
    try {
      info.sharding->verify();
    } catch (const ConfigError& error) {
      throw_config_error("sharding ", text, " on ", describe(graph_, value), ": ", error.what());
    }
    check_manual(*info.sharding, [&] { return cat(describe(graph_, value), " by ", text); });
  }

  void set_axes(Value value, int dim, const AxisList& axes, const std::string& text) {
    graph_.info(value).sharding->dims[static_cast<size_t>(dim)].axes = axes;
    if (origins_ && !axes.empty()) origins_->add({value, path_}, {dim, axes, text});
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
    for (const CompiledGroup& group : groups_)
      if (group.matched < 2)
        note(cat("sharding group of \"", join(group.config->tensor_regexes, "\", \""), "\" has ",
                 group.matched, group.matched == 1 ? " tensor" : " tensors", " in graph \"",
                 graph_.name, "\""));
    for (const auto* rules : {&parameter_rules_, &activation_rules_, &optimizer_rules_})
      for (const CompiledRule& rule : *rules)
        if (rule.matched == 0 &&
            rule.text.rfind(rules == &optimizer_rules_ ? "optimizer" : "", 0) == 0)
          note(cat(rule.text, " matches no tensor"));
  }

  Graph graph_;
  std::string path_;  // of graph_ among the regions
  AxisList manual_;   // axes of the manual computations around graph_
  MeshPtr mesh_;
  Origins* origins_;
  AnnotateNotes* notes_;
  std::vector<CompiledRule> parameter_rules_, activation_rules_, optimizer_rules_;
  std::vector<CompiledOverride> overrides_;
  std::vector<CompiledGroup> groups_;
  int64_t first_group_ = -1;
  AxisList batch_axes_;
  std::set<std::pair<std::vector<std::string>, std::string>> weights_;  // logical axes, shape
};

}  // namespace

Graph annotate(const Graph& graph, const MeshPtr& mesh, const ShardingConfig& config,
               Origins* origins, AnnotateNotes* notes) {
  return Annotator(graph, mesh, config, origins, notes).run();
}

}  // namespace tessera
