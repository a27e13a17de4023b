#include "launch/checkpoint/restore.h"

#include "core/base/log.h"
#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/checkpoint_reader.h"

namespace tessera {
namespace {

// Candidates as text, one path a line: names of ours, which hold no line ends, below a folder that
// might; so lengths go first.
std::string pack_paths(const std::vector<CheckpointEntry>& candidates) {
  std::string text;
  for (const CheckpointEntry& entry : candidates) text += cat(entry.path.size(), ":", entry.path);
  return text;
}

std::vector<std::string> unpack_paths(const std::string& text) {
  std::vector<std::string> paths;
  for (size_t at = 0; at < text.size();) {
    const size_t colon = text.find(':', at);
    const size_t size = std::stoul(text.substr(at, colon - at));
    paths.push_back(text.substr(colon + 1, size));
    at = colon + 1 + size;
  }
  return paths;
}

CheckpointInfo load(const std::string& path, const RestoreRequest& request) {
  CheckpointReader reader(path);
  if (request.accept) request.accept(reader.info());
  check_same_model(reader, request.model);
  for (const TensorTarget& target : request.targets) reader.read(target);
  return reader.info();
}

}  // namespace

std::optional<Restored> restore_checkpoint(const RestoreRequest& request, World* world) {
  std::string packed = pack_paths(request.candidates);
  if (world != nullptr) packed = world->broadcast_text(world->rank() == 0 ? packed : "", 0);
  const bool speaks = world == nullptr || world->rank() == 0;
  std::vector<std::string> skipped;
  for (const std::string& path : unpack_paths(packed)) {
    CheckpointInfo info;
    const std::vector<Outcome> outcomes = run_on_all(world, [&] {
      info = load(path, request);
      return std::string();
    });
    for (const Outcome& outcome : outcomes) {
      if (outcome.failed() && outcome.failure != Failure::corrupt)
        throw_failure(outcome.failure, outcome.error);
    }
    const std::string error = first_error(outcomes);
    if (error.empty()) return Restored{path, std::move(info), std::move(skipped)};
    if (speaks)
      log_warning("checkpoint ", path, " is damaged and passed over, for the one before: ", error);
    skipped.push_back(error);
  }
  if (skipped.empty()) return std::nullopt;
  throw AgreedError(cat("no checkpoint can be read, of ", skipped.size(), " that there are:\n  ",
                        join(skipped, "\n  "),
                        "\nRestore the folder from a copy, or start anew in another output_dir"));
}

}  // namespace tessera
