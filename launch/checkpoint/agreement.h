// Ranks agree on how a step went before any of them goes on: one rank's error becomes everyone's.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/communicator.h"

namespace tessera {

// A UserError that every rank throws at the same place with the same words: one of them may speak
// for all, and the job can end in order.
class AgreedError : public UserError {
 public:
  using UserError::UserError;
};

enum class Failure : char { none = '+', user = 'u', config = 'c', corrupt = 'd', internal = 'i' };

// How a step went on each rank.
struct Outcome {
  Failure failure = Failure::none;  // the family of what was thrown; `user` for any other exception
  std::string error;                // its message
  std::string payload;              // else what the rank has to say to the others

  bool failed() const { return failure != Failure::none; }
};

// On all ranks: throws `message` as the family of error that `failure` names, AgreedError for
// `user`; `none` is not one.
[[noreturn]] void throw_failure(Failure failure, const std::string& message);

// Runs `body` on this rank, catching what it throws, and returns the outcomes of all ranks, in
// order of rank. `world` may be null: one rank. Errors of the communication itself are thrown.
std::vector<Outcome> run_on_all(World* world, const std::function<std::string()>& body);

// The same for a step that only rank 0 does; returns its outcome on all ranks.
Outcome run_on_first(World* world, const std::function<std::string()>& body);

// What a step failed with where all ranks do the same, each for itself: the first failure, in rank 0's
// own words where it failed too, since most often all ranks see the same. None where no rank failed.
std::optional<Outcome> common_failure(const std::vector<Outcome>& outcomes);

// "rank 3: ..." for the first rank that failed and a count of the others; "" where none did.
std::string first_error(const std::vector<Outcome>& outcomes);

}  // namespace tessera
