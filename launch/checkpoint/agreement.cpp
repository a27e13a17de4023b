#include "launch/checkpoint/agreement.h"

#include <exception>

#include "launch/checkpoint/manifest.h"

namespace tessera {
namespace {

Outcome run_here(const std::function<std::string()>& body) {
  Outcome outcome;
  try {
    outcome.payload = body();
    return outcome;
  } catch (const CorruptCheckpoint& error) {
    outcome.error = error.what();
    outcome.corrupt = true;
  } catch (const InternalError& error) {
    outcome.error = error.what();
    outcome.internal = true;
  } catch (const std::exception& error) {
    outcome.error = error.what();
  }
  if (outcome.error.empty()) outcome.error = "unknown error";
  return outcome;
}

// One letter for what it is, then the text.
std::string pack(const Outcome& outcome) {
  if (outcome.error.empty()) return "+" + outcome.payload;
  return (outcome.corrupt ? "c" : outcome.internal ? "i" : "-") + outcome.error;
}

Outcome unpack(const std::string& text) {
  TESSERA_CHECK(!text.empty());
  if (text[0] == '+') return {.error = "", .payload = text.substr(1)};
  return {.error = text.substr(1),
          .payload = "",
          .corrupt = text[0] == 'c',
          .internal = text[0] == 'i'};
}

}  // namespace

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

std::string first_error(const std::vector<Outcome>& outcomes) {
  std::string text;
  int more = 0;
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].error.empty()) continue;
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
