// What a profile says of the steps of an executable: the same for every run of a step, so it is made once.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/compile/executable.h"

namespace tessera {

struct StepText {
  enum class Kind : uint8_t { kernel, start, wait, copy, rank_data, control };
  Kind kind = Kind::kernel;
  std::string title;  // of its event: "dot_general block.3/mlp"
  std::string args;   // members of a JSON object
  // The row of the summary: layers alike have the same.
  std::string op;     // "dot_general", "wait all_gather"
  std::string where;  // "block.*/mlp"; of a collective its axes
  double flops = 0, bytes = 0;  // bytes of a collective: those that this device sends
  bool is_test = false;         // of a loop's condition, on the host
  // Of a start and a wait.
  std::string collective;  // its title: "all_gather block.3.mlp.up.weight"
  std::string wait_op;     // the row's op of the wait
  std::string axes;        // "data"
  int start_step = -1;     // of a wait

  bool communicates() const { return kind == Kind::start || kind == Kind::wait; }
};

std::string_view category(StepText::Kind kind);

StepText describe_for_profile(const Executable& executable, int step);

// Remembers them.
class StepTexts {
 public:
  const StepText& of(const Executable& executable, int step);

 private:
  std::map<const Executable*, std::vector<StepText>> known_;
};

}  // namespace tessera
