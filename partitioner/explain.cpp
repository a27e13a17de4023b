#include "partitioner/explain.h"

#include <algorithm>
#include <map>
#include <optional>
#include <regex>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

std::string activation_name(const Instruction& instruction, const ResultInfo& info) {
  if (info.logical_axes.empty() || instruction.recompute || instruction.scope.empty() ||
      instruction.scope.ends_with("backward") || instruction.scope.starts_with("accumulate"))
    return "";
  return cat(instruction.scope, "/", instruction.op->name, "(", join(info.logical_axes, ","), ")");
}

struct Named {
  std::string name;
  Place place;
};

void gather_names(const Graph& graph, const std::string& path, std::vector<Named>& all) {
  const std::vector<std::vector<std::string>> names = tensor_names(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    for (size_t r = 0; r < names[i].size(); ++r)
      if (!names[i][r].empty())
        all.push_back({names[i][r], {{static_cast<int>(i), static_cast<int>(r)}, path}});
    for (const Region& region : control_regions(graph.instructions[i]))
      gather_names(*region.graph, region_path(path, static_cast<int>(i), region), all);
  }
}

// "%12.body/%3:1" as a place, if there is such a value.
std::optional<Place> numbered(const Graph& graph, const std::string& text) {
  const size_t slash = text.rfind('/');
  Place place;
  place.region = slash == std::string::npos ? "" : text.substr(0, slash + 1);
  const std::string last = text.substr(place.region.size());
  static const std::regex kNumber("%([0-9]{1,9})(:([0-9]{1,4}))?");
  std::smatch match;
  if (!std::regex_match(last, match, kNumber)) return {};
  place.value = {std::stoi(match[1]), match[3].matched ? std::stoi(match[3]) : 0};
  const Graph* inner = &graph;
  try {
    inner = &region_at(graph, place.region);
  } catch (const std::exception&) {
    return {};
  }
  if (static_cast<size_t>(place.value.instruction) >= inner->instructions.size()) return {};
  if (static_cast<size_t>(place.value.result) >= inner->at(place.value).results.size()) return {};
  return place;
}

std::vector<Named> meant(const std::vector<Named>& all, const std::string& question) {
  std::vector<Named> found;
  std::copy_if(all.begin(), all.end(), std::back_inserter(found),
               [&](const Named& one) { return one.name == question; });
  if (!found.empty()) return found;
  try {
    const std::regex regex(question, std::regex::ECMAScript);
    std::copy_if(all.begin(), all.end(), std::back_inserter(found),
                 [&](const Named& one) { return std::regex_match(one.name, regex); });
  } catch (const std::regex_error&) {
    // A plain name with special characters in it.
  }
  return found;
}

}  // namespace

std::vector<std::vector<std::string>> tensor_names(const Graph& graph) {
  std::vector<std::vector<std::string>> names;
  std::map<std::string, int> seen;
  for (const Instruction& instruction : graph.instructions) {
    names.emplace_back();
    for (const ResultInfo& info : instruction.results) {
      std::string name = info.name;
      if (name.empty()) name = activation_name(instruction, info);
      if (info.name.empty() && !name.empty())
        if (const int number = ++seen[name]; number > 1) name = cat(name, "#", number);
      names.back().push_back(std::move(name));
    }
  }
  return names;
}

std::string explain(const Graph& propagated, const Origins& origins,
                    const std::vector<Conflict>& conflicts, const std::string& question) {
  std::vector<Named> all, found;
  gather_names(propagated, "", all);
  if (question.starts_with("%")) {
    if (const std::optional<Place> place = numbered(propagated, question))
      found = {{describe(propagated, *place), *place}};
    else
      throw_config_error("--explain: graph \"", propagated.name, "\" has no value ", question,
                         "; after propagation it has %0 to %", propagated.instructions.size() - 1,
                         " (--after=propagate prints them)");
  } else {
    found = meant(all, question);
  }
  if (found.empty()) {
    std::vector<std::string> names;
    for (const Named& one : all) names.push_back(one.name);
    const std::string near = nearest_name(question, names);
    throw_config_error("--explain: graph \"", propagated.name, "\" has no tensor \"", question,
                       "\", and no name matches it as a regular expression; ",
                       near.empty() ? cat("names look like \"", names.empty() ? "" : names.front(),
                                          "\" (see the plan's list)")
                                    : cat("did you mean \"", near, "\"?"));
  }
  std::string text;
  for (const Named& one : found) {
    const ResultInfo& info = region_at(propagated, one.place.region).info(one.place.value);
    text += cat(one.name, " ", info.type, " lies ", info.sharding->closed(), "\n",
                origins.explain(propagated, one.place, conflicts), "\n");
  }
  return text;
}

}  // namespace tessera
