// Ranks that each have a GPU: symmetric device memory, and communicators over NCCL or through the host.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/backend/cuda_backend.h"

namespace tessera::cuda {

// See Plugin::create_world.
std::unique_ptr<World> create_cuda_world(World& inner, CudaBackend& backend, Transport transport);

// Of a world made by create_cuda_world: "NCCL 2.28.3", or "staged through pinned host memory (...)".
std::string transport_of(const World& world);

// "NCCL 2.28.3", or "no NCCL: " and why.
std::string nccl_version();

// What the worlds of all transports have in common: device memory; all else is the inner world's. By itself the
// world of one rank.
class CudaWorld : public World {
 public:
  CudaWorld(World& inner, CudaBackend& backend, std::string transport);
  ~CudaWorld() override;
  const std::string& transport() const { return transport_; }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int local_rank() const override { return inner_.local_rank(); }
  int local_size() const override { return inner_.local_size(); }
  const std::string& host_name() const override { return inner_.host_name(); }
  bool shares_process() const override { return inner_.shares_process(); }

  // Device memory, which peers do not read themselves: NCCL and the copies do.
  std::byte* allocate_symmetric(int64_t bytes) override;
  std::unique_ptr<Communicator> create_group(std::span<const int> ranks, std::string_view name) override;

  void barrier() override;
  int64_t all_reduce_max(int64_t value) override;
  std::string broadcast_text(const std::string& text, int root) override;
  std::vector<std::string> all_gather_text(const std::string& text) override;
  void set_timeout(double seconds) override { inner_.set_timeout(seconds); }
  ProgressEngine* progress() override { return inner_.progress(); }
  void abort(std::string_view reason) noexcept override { inner_.abort(reason); }

 protected:
  // Of a group of several ranks, which has a communicator of the inner world.
  virtual std::unique_ptr<Communicator> create_device_group(std::span<const int> ranks, std::string_view name,
                                                            std::unique_ptr<Communicator> inner);
  // What a rank does that is alone in its group; other ranks may be in groups of several.
  virtual void join_no_group() {}
  // Zeroed or not; collective. What is made so is given back so.
  virtual std::byte* make_arena(int64_t bytes) { return backend_.allocate(bytes); }
  virtual void release_arena(std::byte* arena) noexcept { backend_.release(arena); }
  // What allocate_symmetric does besides; collective.
  virtual void added_arena(std::byte* /*device*/, int64_t /*bytes*/) {}
  // Before the rank waits for its peers.
  virtual void before_exchange() {}

  // For the destructors of those that make arenas of their own; before anything else of theirs goes.
  void release_arenas() noexcept;

  World& inner_;
  CudaBackend& backend_;

 private:
  const std::string transport_;
  std::vector<std::byte*> arenas_;
};

}  // namespace tessera::cuda
