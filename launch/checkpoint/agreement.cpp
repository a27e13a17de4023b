#include "launch/checkpoint/agreement.h"

#include <exception>

#include "launch/checkpoint/manifest.h"

namespace tessera {
namespace {

Outcome run_here(const std::function<std::string()>& body) {
  const auto failed = [](Failure failure, const std::exception& error) {
    return Outcome{failure, error.what(), ""};
  };
  try {
    return {Failure::none, "", body()};
  } catch (const CorruptCheckpoint& error) {
    return failed(Failure::corrupt, error);
  } catch (const ConfigError& error) {
    return failed(Failure::config, error);
  } catch (const InternalError& error) {
    return failed(Failure::internal, error);
  } catch (const std::exception& error) {
    return failed(Failure::user, error);
  }
}

// One letter for what it is, then the text.
std::string pack(const Outcome& outcome) {
  return static_cast<char>(outcome.failure) + (outcome.failed() ? outcome.error : outcome.payload);
}

Outcome unpack(const std::string& text) {
  TESSERA_CHECK(!text.empty());
  Outcome outcome;
  outcome.failure = static_cast<Failure>(text[0]);
  (outcome.failed() ? outcome.error : outcome.payload) = text.substr(1);
  return outcome;
}

}  // namespace

void throw_failure(Failure failure, const std::string& message) {
  TESSERA_CHECK(failure != Failure::none, message);
  if (failure == Failure::internal) throw InternalError(message);
  if (failure == Failure::config) throw ConfigError(message);
  if (failure == Failure::corrupt) throw CorruptCheckpoint(message);
  throw AgreedError(message);
}

std::vector<Outcome> run_on_all(World* world, const std::function<std::string()>& body) {
  const Outcome mine = run_here(body);
  if (world == nullptr) return {mine};
  std::vector<Outcome> outcomes;
  for (const std::string& text : world->all_gather_text(pack(mine)))
    outcomes.push_back(unpack(text));
  return outcomes;
}

Outcome run_on_first(World* world, const std::function<std::string()>& body) {
  if (world == nullptr) return run_here(body);
  return unpack(world->broadcast_text(world->rank() == 0 ? pack(run_here(body)) : "", 0));
}

std::optional<Outcome> common_failure(const std::vector<Outcome>& outcomes) {
  for (const Outcome& outcome : outcomes)
    if (outcome.failed())
      return Outcome{outcome.failure,
                     outcomes[0].failed() ? outcomes[0].error : first_error(outcomes), ""};
  return std::nullopt;
}

std::string first_error(const std::vector<Outcome>& outcomes) {
  std::string text;
  int more = 0;
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (!outcomes[rank].failed()) continue;
    if (!text.empty())
      ++more;
    else if (outcomes.size() == 1)
      text = outcomes[rank].error;
    else
      text = cat("rank ", rank, ": ", outcomes[rank].error);
  }
  if (more > 0) text += cat(" (and errors on ", more, " other ranks)");
  return text;
}

}  // namespace tessera
