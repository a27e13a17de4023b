#include <algorithm>
#include <cctype>
#include <regex>
#include <set>

#include "core/base/strings.h"
#include "launch/config/descriptors.h"
#include "launch/config/mesh.h"
#include "launch/config/origins.h"
#include "launch/config/validate.h"

namespace tessera::config {
namespace {

// All names that the models of a job give to dims; a rule for any other can match no tensor.
const std::vector<std::string> kLogicalAxes = {"batch", "length", "embed", "heads",     "kv_heads",
                                               "head_dim", "mlp", "vocab", "positions", "norm"};

class ShardingChecker {
 public:
  ShardingChecker(JobConfig& job, bool read_well, Problems& problems)
      : job_(job), sharding_(job.sharding), read_well_(read_well), problems_(problems) {}

  void run() {
    check_mesh();
    check_rules(sharding_.parameter_rules, "sharding.parameter_rules");
    check_rules(sharding_.activation_rules, "sharding.activation_rules");
    check_rules(sharding_.optimizer_rules, "sharding.optimizer_rules");
    for (size_t i = 0; i < sharding_.overrides.size(); ++i) {
      check_override(sharding_.overrides[i], cat("sharding.overrides[", i, "]"));
    }
    for (size_t i = 0; i < sharding_.groups.size(); ++i)
      check_group(sharding_.groups[i], cat("sharding.groups[", i, "]"));
    warn_of_idle_axes();
  }

 private:
  void check_mesh() {
    if (sharding_.axes.empty() && read_well_) {
      problems_.add(place_of(job_, "sharding"),
                    "sharding has no mesh; add e.g. mesh { name: "
                    "\"data\" size: -1 }, or give --mesh data=N");
    }
    for (size_t i = 0; i < sharding_.axes.size(); ++i) {
      const std::string& name = sharding_.axes[i].name;
      const std::string path = cat("sharding.mesh[", i, "]");
      const bool is_name = !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
                           std::all_of(name.begin(), name.end(),
                                       [](unsigned char c) { return std::isalnum(c) || c == '_'; });
      if (!is_name && (read_well_ || !name.empty())) {
        problems_.add(place_of(job_, path), path, ".name is \"", name,
                      "\"; it must be letters, "
                      "digits and underscores, and not start with a digit");
      }
      if (std::find(names_.begin(), names_.end(), name) != names_.end()) {
        problems_.add(place_of(job_, path), "mesh ", mesh_text(sharding_.axes), " has two axes \"",
                      name, "\"; names must be unique");
      }
      names_.push_back(name);
    }
  }

  // `what` describes the rule: "rule embed -> data,model".
  void check_axes(const std::vector<std::string>& axes, const std::string& path,
                  const std::string& what, std::set<std::string>& used) {
    for (const std::string& axis : axes) {
      if (std::find(names_.begin(), names_.end(), axis) == names_.end()) {
        problems_.add(place_of(job_, path), what, " names an unknown mesh axis \"", axis, "\"",
                      did_you_mean(axis, names_), " (the mesh is ", mesh_text(sharding_.axes), ")");
      } else if (!used.insert(axis).second) {
        problems_.add(place_of(job_, path), what, " uses mesh axis \"", axis, "\" twice");
      }
      ruled_.insert(axis);
    }
  }

  void check_rules(const std::vector<AxisRule>& rules, const std::string& list) {
    for (size_t i = 0; i < rules.size(); ++i) {
      const std::string path = cat(list, "[", i, "]");
      if (rules[i].logical.empty() && read_well_) {
        problems_.add(place_of(job_, path), path,
                      " has no logical axis; say which dim it places, "
                      "e.g. logical: \"embed\"");
      } else if (!rules[i].logical.empty() &&
                 std::find(kLogicalAxes.begin(), kLogicalAxes.end(), rules[i].logical) == kLogicalAxes.end()) {
        problems_.add(place_of(job_, path), path, " is for \"", rules[i].logical,
                      "\", a name that no dim of any tensor has", did_you_mean(rules[i].logical, kLogicalAxes),
                      " (there are ", join(kLogicalAxes), ")");
      }
      check_priority(rules[i].priority, path);
      std::set<std::string> used;
      check_axes(rules[i].mesh_axes, path,
                 cat("rule ", rules[i].logical, " -> ", join(rules[i].mesh_axes, ",")), used);
    }
  }

  void check_override(const ShardingOverride& entry, const std::string& path) {
    try {
      std::regex compiled(entry.tensor_regex);
    } catch (const std::regex_error& error) {
      problems_.add(place_of(job_, path), path, ".tensor: \"", entry.tensor_regex,
                    "\" is not a regular expression: ", error.what());
    }
    if (entry.tensor_regex.empty() && read_well_) {
      problems_.add(place_of(job_, path), path,
                    " has no tensor; say which by a regular expression");
    }
    check_priority(entry.priority, path);
    std::set<std::string> used;
    for (const auto& dim : entry.dims) {
      std::vector<std::string> axes = dim;
      if (!axes.empty() && axes.back() == "?") axes.pop_back();  // open
      check_axes(axes, path, cat("override of \"", entry.tensor_regex, "\""), used);
    }
  }

  void check_priority(int64_t priority, const std::string& path) {
    if (priority < 0 || priority > 1000)
      problems_.add(place_of(job_, path), path, ".priority is ", priority,
                    "; give 0 (first) to 1000");
  }

  void check_group(const TensorGroup& group, const std::string& path) {
    if (group.tensor_regexes.empty() && read_well_)
      problems_.add(place_of(job_, path), path, " has no tensors; say which by regular expressions");
    for (const std::string& text : group.tensor_regexes) {
      try {
        std::regex compiled(text);
      } catch (const std::regex_error& error) {
        problems_.add(place_of(job_, path), path, ".tensors: \"", text,
                      "\" is not a regular expression: ", error.what());
      }
    }
  }

  void warn_of_idle_axes() {
    for (const MeshAxisConfig& axis : sharding_.axes) {
      if (axis.size == 1 || ruled_.contains(axis.name)) continue;
      job_.warnings.push_back(cat("no sharding rule names mesh axis \"", axis.name, "\" (size ",
                                  axis.size, "): devices along it all do the same work"));
    }
  }

  JobConfig& job_;
  const ShardingConfig& sharding_;
  const bool read_well_;
  Problems& problems_;
  std::vector<std::string> names_;
  std::set<std::string> ruled_;
};

}  // namespace

void check_sharding(JobConfig& job, bool read_well, Problems& problems) {
  ShardingChecker(job, read_well, problems).run();
}

}  // namespace tessera::config
