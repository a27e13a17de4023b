// A group of one rank: copies on the compute stream.
#pragma once

#include <memory>
#include <string>

#include "core/runtime/collective_geometry.h"

namespace tessera::cuda {

class LocalGroup final : public Communicator {
 public:
  explicit LocalGroup(std::string name) : name_(std::move(name)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }
  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket) override {}
  bool needs_host() const override { return false; }

 private:
  std::string name_;
  CollectiveGeometry geometry_;
};

}  // namespace tessera::cuda
