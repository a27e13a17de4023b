// Small datagrams between the watchdogs of different hosts, beside MPI: they get through when the
// thread that calls MPI is stuck.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

enum class SideKind : uint32_t {
  probe,   // how far are you in `group`?
  answer,  // started, finished, blocked_on, and in words what this rank does
  abort,   // the job ends: abort_state, culprit, text
};

struct SideMessage {
  uint64_t job = 0;  // messages of other jobs are ignored
  SideKind kind = SideKind::probe;
  int32_t from = -1;  // world rank
  int32_t group = 0;
  uint32_t abort_state = 0;
  uint64_t started = 0, finished = 0;
  int32_t blocked_on = -1;
  int32_t culprit = -1;
  char text[1024] = {};

  void set_text(const std::string& value);
};

class SideChannel {
 public:
  // Binds a UDP socket. `interface` is an interface's name or an IPv4 address; empty: the address
  // that the host's name resolves to, else the first interface that is up; `loopback`: 127.0.0.1
  // (all ranks on one machine). Where nothing can be bound the channel is not `open`.
  SideChannel(const std::string& interface, bool loopback);
  ~SideChannel();
  SideChannel(const SideChannel&) = delete;

  bool open() const { return socket_ >= 0; }
  int descriptor() const { return socket_; }
  // IPv4 address and port of this socket in one number; 0 where it is not open.
  uint64_t address() const { return address_; }

  // `addresses` by world rank.
  void connect(uint64_t job, int world_rank, std::vector<uint64_t> addresses);

  // Never blocks; a datagram that cannot be sent is lost. Any thread.
  void send(int world_rank, SideMessage message) const noexcept;
  // The next datagram of this job, if there is one.
  bool receive(SideMessage& message) const;

 private:
  int socket_ = -1;
  uint64_t address_ = 0;
  uint64_t job_ = 0;
  int world_rank_ = -1;
  std::vector<uint64_t> addresses_;
};

}  // namespace tessera
