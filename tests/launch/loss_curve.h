// What a job's training step computes on a mesh of thread ranks, without the trainer's files: the
// numbers that have to be the same on every mesh.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "tests/launch/tiny_job.h"

namespace tessera::test {

// A mesh to train on: a shipped sharding, or none for one device.
struct Layout {
  const char* name;
  const char* sharding;
  const char* mesh;
  int devices;
};
std::ostream& operator<<(std::ostream& out, const Layout& layout);

inline constexpr Layout kOneDevice = {"one", "", "", 1};

struct Curve {
  std::vector<double> losses, norms;  // of each step: the loss and the norm of the gradients
  double heldout = 0;                 // the loss on the held-out text afterwards
};

// The 20 steps of `job` with the fields of `sets` on `layout`.
Curve train_on(const TinyJob& job, const Layout& layout, std::vector<std::string> sets);

// Losses within `tolerance`, relative; norms, which add up more rounding, within ten times that.
void expect_near(const Curve& expected, const Curve& curve, double tolerance);

}  // namespace tessera::test
