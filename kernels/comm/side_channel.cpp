#include "kernels/comm/side_channel.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/base/error.h"

namespace tessera {
namespace {

bool is_loopback(in_addr address) { return (ntohl(address.s_addr) >> 24) == 127; }

// Bridges of containers and virtual machines have the same address on every host.
bool is_bridge(const std::string& name) {
  for (const char* prefix : {"lo", "docker", "virbr", "veth", "br-", "cni", "flannel"})
    if (name.rfind(prefix, 0) == 0) return true;
  return false;
}

// The IPv4 address of interface `wanted`, or of the first plausible one where that is empty.
bool interface_address(const std::string& wanted, in_addr& result) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* item = list; item != nullptr && !found; item = item->ifa_next) {
    if (item->ifa_addr == nullptr || item->ifa_addr->sa_family != AF_INET) continue;
    if ((item->ifa_flags & IFF_UP) == 0) continue;
    if (wanted.empty() ? is_bridge(item->ifa_name) : wanted != item->ifa_name) continue;
    result = reinterpret_cast<const sockaddr_in*>(item->ifa_addr)->sin_addr;
    found = true;
  }
  freeifaddrs(list);
  return found;
}

bool host_name_address(in_addr& result) {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return false;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* list = nullptr;
  if (getaddrinfo(name, nullptr, &hints, &list) != 0) return false;
  result = reinterpret_cast<const sockaddr_in*>(list->ai_addr)->sin_addr;
  freeaddrinfo(list);
  return !is_loopback(result);  // Debian maps the host's name to 127.0.1.1
}

in_addr choose_address(const std::string& interface, bool loopback) {
  in_addr address{};
  if (!interface.empty()) {
    if (inet_pton(AF_INET, interface.c_str(), &address) == 1) return address;
    if (interface_address(interface, address)) return address;
    throw_config_error("side channel: '", interface,
                       "' is neither an IPv4 address nor an interface that is up on this host");
  }
  if (!loopback && (host_name_address(address) || interface_address("", address))) return address;
  address.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

void SideMessage::set_text(const std::string& value) {
  const size_t length = std::min(value.size(), sizeof text - 1);
  std::memcpy(text, value.data(), length);
  text[length] = 0;
}

SideChannel::SideChannel(const std::string& interface, bool loopback) {
  const in_addr chosen = choose_address(interface, loopback);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sockaddr_in local{};
  local.sin_family = AF_INET;
  local.sin_addr = chosen;
  socklen_t length = sizeof local;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) != 0) {
    close(fd);
    return;
  }
  socket_ = fd;
  address_ = (uint64_t{ntohl(chosen.s_addr)} << 16) | ntohs(local.sin_port);
}

SideChannel::~SideChannel() {
  if (socket_ >= 0) close(socket_);
}

void SideChannel::connect(uint64_t job, int world_rank, std::vector<uint64_t> addresses) {
  job_ = job;
  world_rank_ = world_rank;
  addresses_ = std::move(addresses);
}

void SideChannel::send(int world_rank, SideMessage message) const noexcept {
  if (socket_ < 0 || static_cast<size_t>(world_rank) >= addresses_.size()) return;
  const uint64_t address = addresses_[static_cast<size_t>(world_rank)];
  if (address == 0) return;
  message.job = job_;
  message.from = world_rank_;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(static_cast<uint32_t>(address >> 16));
  to.sin_port = htons(static_cast<uint16_t>(address & 0xffff));
  sendto(socket_, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL,
         reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

bool SideChannel::receive(SideMessage& message) const {
  while (socket_ >= 0) {
    const ssize_t bytes = recv(socket_, &message, sizeof message, MSG_DONTWAIT);
    if (bytes < 0) return false;
    if (bytes != sizeof message || message.job != job_) continue;
    message.text[sizeof message.text - 1] = 0;
    return true;
  }
  return false;
}

}  // namespace tessera
