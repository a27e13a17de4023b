#include "launch/config/mesh.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <vector>

#include "core/base/strings.h"
#include "launch/config/descriptors.h"
#include "proto/job.pb.h"

namespace tessera::config {
namespace {

constexpr int64_t kMaxDevices = 1 << 22;  // keeps shards x microbatch x accumulate in 64 bits
constexpr const char* kMeshExample = "write axis=size pairs, e.g. --mesh data=2,model=4";

// "data=2,model=4" as axes; nullopt, with a problem, if it is not of that form.
std::optional<std::vector<MeshAxisConfig>> parse_mesh(const std::string& text, Problems& problems) {
  std::vector<MeshAxisConfig> axes;
  for (const std::string& part : split(text, ',')) {
    const size_t equals = part.find('=');
    const std::string_view name = trim(std::string_view(part).substr(0, equals));
    const std::string_view number =
        equals == std::string::npos ? "" : trim(std::string_view(part).substr(equals + 1));
    int64_t size = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), size);
    if (name.empty() || error != std::errc() || end != number.data() + number.size()) {
      problems.add("--mesh ", text, ": cannot read \"", trim(part), "\"; ", kMeshExample);
      return std::nullopt;
    }
    axes.push_back({std::string(name), size});
  }
  return axes;
}

std::set<std::string> unique(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

std::set<std::string> axes_in_rules(const proto::ShardingConfig& sharding) {
  std::set<std::string> names;
  const auto note = [&](const auto& rules) {
    for (const auto& rule : rules) names.insert(rule.axes().begin(), rule.axes().end());
  };
  note(sharding.parameter_rules());
  note(sharding.activation_rules());
  note(sharding.optimizer_rules());
  for (const auto& entry : sharding.overrides()) note(entry.dims());
  return names;
}

}  // namespace

std::string mesh_text(const std::vector<MeshAxisConfig>& axes) {
  std::vector<std::string> parts;
  for (const MeshAxisConfig& axis : axes) parts.push_back(cat(axis.name, "=", axis.size));
  return join(parts, ",");
}

void apply_mesh_flag(const std::string& text, proto::JobConfig& root, Origins& origins,
                     Problems& problems) {
  proto::ShardingConfig& sharding = *root.mutable_sharding();
  std::vector<MeshAxisConfig> given;
  if (trim(text) != "1") {
    auto parsed = parse_mesh(text, problems);
    if (!parsed) return;
    given = *parsed;
  }
  const std::set<std::string> ruled = axes_in_rules(sharding);
  std::vector<std::string> known(ruled.begin(), ruled.end());
  std::vector<MeshAxisConfig> axes;
  for (const proto::MeshAxis& axis : sharding.mesh()) {
    known.push_back(axis.name());
    const bool named = std::any_of(given.begin(), given.end(),
                                   [&](const auto& other) { return other.name == axis.name(); });
    if (!named) axes.push_back({axis.name(), 1});
  }
  for (const MeshAxisConfig& axis : given) {
    if (axis.size != 1 && std::find(known.begin(), known.end(), axis.name) == known.end()) {
      const std::string hint = did_you_mean(axis.name, known);
      problems.add("--mesh ", text, ": no rule of the sharding names axis \"", axis.name,
                   "\", so its devices would all do the same work", hint,
                   hint.empty() ? cat("; the axes are ", join(unique(known)),
                                      "; name another sharding by "
                                      "--sharding FILE")
                                : "");
    }
    axes.push_back(axis);
  }
  sharding.clear_mesh();
  for (const MeshAxisConfig& axis : axes) {
    proto::MeshAxis& entry = *sharding.add_mesh();
    entry.set_name(axis.name);
    entry.set_size(axis.size);
  }
  set_origin(origins, root, "sharding.mesh", {Origin::Kind::mesh_flag, "", 0, text});
}

namespace {

// A mesh for `devices` that keeps the sizes of the last axes where they divide.
std::string suggested_mesh(std::vector<MeshAxisConfig> axes, int64_t devices) {
  int64_t rest = devices;
  for (size_t i = axes.size(); i-- > 1;) {
    if (axes[i].size < 1 || rest % axes[i].size != 0) axes[i].size = 1;
    rest /= axes[i].size;
  }
  axes[0].size = rest;
  return mesh_text(axes);
}

std::string devices_text(int64_t count) { return cat(count, count == 1 ? " device" : " devices"); }

}  // namespace

bool resolve_mesh(int64_t device_count, JobConfig& job, Problems& problems) {
  std::vector<MeshAxisConfig>& axes = job.sharding.axes;
  const std::string mesh = mesh_text(axes);
  const std::string where = place_of(job, "sharding.mesh[0]");
  std::vector<int64_t> factors;
  size_t open = axes.size();
  int64_t product = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    const bool is_open = axes[i].size == -1;
    if (is_open && open < axes.size()) {
      problems.add(where, "mesh ", mesh, " leaves two axes open, \"", axes[open].name, "\" and \"",
                   axes[i].name, "\"; only one size may be -1");
      return false;
    }
    if (is_open) {
      open = i;
    } else if (axes[i].size < 1 || axes[i].size > kMaxDevices / product) {
      problems.add(place_of(job, cat("sharding.mesh[", i, "].size")), "mesh axis \"", axes[i].name,
                   "\" has size ", axes[i].size,
                   "; a size is at least 1, or -1 on one axis, and a "
                   "mesh has at most ",
                   kMaxDevices, " devices");
      return false;
    } else {
      product *= axes[i].size;
      factors.push_back(axes[i].size);
    }
  }
  const std::string equation =
      factors.size() > 1 ? cat(join(factors, " x "), " = ", product) : cat(product);
  if (open < axes.size()) {
    if (device_count == 0) {
      problems.add(where, "mesh axis \"", axes[open].name,
                   "\" takes what the device count leaves (-1), but the number of devices is not "
                   "known; give --devices N, or --mesh with every size");
      return false;
    }
    if (device_count % product != 0) {
      problems.add(where, "mesh ", mesh, " does not fit ", devices_text(device_count), ": ",
                   equation, " does not divide ", device_count,
                   "; change the number of ranks, or "
                   "--mesh ",
                   suggested_mesh(axes, device_count));
      return false;
    }
    axes[open].size = device_count / product;
    Origin& origin = job.origins[cat("sharding.mesh[", open, "].size")];
    if (origin.kind == Origin::Kind::built_in) origin.kind = Origin::Kind::derived;
    origin.note += cat(origin.note.empty() ? "" : " ", "(-1 of ", devices_text(device_count), ")");
    product = device_count;
  }
  if (device_count != 0 && product != device_count) {
    problems.add(where, "mesh ", mesh, " needs ", equation, " devices, but there ",
                 device_count == 1 ? "is " : "are ", device_count, ": start ", product,
                 product == 1 ? " rank" : " ranks", " (mpirun -np ", product,
                 "), or fit the mesh to ", devices_text(device_count), " by --mesh ",
                 suggested_mesh(axes, device_count));
    return false;
  }
  job.device_count = product;
  return true;
}

int64_t count_batch_shards(const JobConfig& job) {
  std::set<std::string> used;
  bool length_placed = false;
  for (const AxisRule& rule : job.sharding.activation_rules) {
    const bool is_batch = rule.logical == "batch";
    if (!is_batch && (rule.logical != "length" || length_placed)) continue;
    int64_t shards = 1;
    std::set<std::string> axes;  // axes of size 1 shard nothing and are never taken
    for (const MeshAxisConfig& axis : job.sharding.axes) {
      if (axis.size == 1 || !std::count(rule.mesh_axes.begin(), rule.mesh_axes.end(), axis.name)) {
        continue;
      }
      shards *= axis.size;
      axes.insert(axis.name);
    }
    const int64_t extent = is_batch ? job.train.global_batch : job.train.sequence_length;
    const bool taken = std::any_of(axes.begin(), axes.end(),
                                   [&](const auto& axis) { return used.contains(axis); });
    if (taken || (rule.if_divides && extent % shards != 0)) continue;
    if (is_batch) return shards;
    length_placed = true;
    used = std::move(axes);
  }
  return 1;
}

void resolve_batch(bool microbatch_given, bool accumulate_given, JobConfig& job,
                   Problems& problems) {
  TrainConfig& train = job.train;
  job.batch_shards = count_batch_shards(job);
  const int64_t shards = job.batch_shards;
  const int64_t batch = train.global_batch;
  const std::string where = place_of(job, "train.global_batch");
  const std::string mesh =
      cat("data shards ", shards, " (mesh ", mesh_text(job.sharding.axes), ")");
  if (microbatch_given && accumulate_given) {
    const int64_t product = shards * train.microbatch * train.accumulate;
    if (product == batch) return;
    problems.add(where, "the batch does not add up: global_batch ", batch, ", but ", mesh,
                 " x microbatch ", train.microbatch, " x accumulate ", train.accumulate, " = ",
                 product, "; set train.global_batch=", product,
                 batch % (shards * train.microbatch) == 0
                     ? cat(" or train.accumulate=", batch / (shards * train.microbatch))
                     : "");
    return;
  }
  if (!accumulate_given && !microbatch_given) train.accumulate = 1;
  const int64_t known = microbatch_given ? train.microbatch : train.accumulate;
  const char* known_name = microbatch_given ? "microbatch" : "accumulate";
  const char* open_name = microbatch_given ? "accumulate" : "microbatch";
  const int64_t divisor = shards * known;
  if (batch % divisor != 0) {
    const int64_t below = batch / divisor * divisor;
    problems.add(where, "the batch does not divide: global_batch ", batch, " = ", mesh, " x ",
                 known_name, " ", known, " x ", open_name, ", but ", batch, " / (", shards, " x ",
                 known, ") = ", static_cast<double>(batch) / divisor,
                 "; make global_batch a multiple of ", divisor, ", e.g. ",
                 below > 0 ? cat(below, " or ") : "", below + divisor, ", or change ", known_name,
                 " or the mesh");
    return;
  }
  (microbatch_given ? train.accumulate : train.microbatch) = batch / divisor;
  job.origins[cat("train.", open_name)] = {
      Origin::Kind::derived, "", 0,
      cat(batch, " / (", shards, " shards x ", known_name, " ", known, ")")};
  if (!microbatch_given && !accumulate_given) job.origins.erase("train.accumulate");
}

}  // namespace tessera::config
