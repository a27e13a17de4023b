#include "kernels/comm/mpi/mpi_support.h"

#include <algorithm>

#include "core/base/error.h"

namespace tessera {
namespace {

constexpr int64_t kPart = int64_t{1} << 30;

template <typename Post>
void in_parts(int64_t bytes, Post&& post) {
  int64_t begin = 0;
  do {  // an empty message is a message too
    const int64_t part = std::min(kPart, bytes - begin);
    post(begin, static_cast<int>(part));
    begin += part;
  } while (begin < bytes);
}

}  // namespace

void check_mpi(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING + 1] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_user_error("MPI: ", what, " failed: ", std::string_view(text, static_cast<size_t>(length)));
}

void await_request(ProgressEngine& engine, MPI_Request* request, const WaitSite& site) {
  WaitSite polled = site;
  polled.polling = true;
  engine.wait_until(polled, [request] {
    int done = 0;
    check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
}

void send_bytes(const std::byte* data, int64_t bytes, int peer, int tag, MPI_Comm comm,
                std::vector<MPI_Request>& requests) {
  in_parts(bytes, [&](int64_t begin, int part) {
    requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(data + begin, part, MPI_BYTE, peer, tag, comm, &requests.back()),
              "MPI_Isend");
  });
}

void receive_bytes(std::byte* data, int64_t bytes, int peer, int tag, MPI_Comm comm,
                   std::vector<MPI_Request>& requests) {
  in_parts(bytes, [&](int64_t begin, int part) {
    requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Irecv(data + begin, part, MPI_BYTE, peer, tag, comm, &requests.back()),
              "MPI_Irecv");
  });
}

OwnedComm& OwnedComm::operator=(OwnedComm&& other) noexcept {
  std::swap(comm_, other.comm_);
  return *this;
}

void OwnedComm::reset() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (comm_ != MPI_COMM_NULL && !finalized) MPI_Comm_free(&comm_);
  comm_ = MPI_COMM_NULL;
}

OwnedComm create_comm(MPI_Comm world, const std::vector<int>& members, int tag) {
  MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
  check_mpi(MPI_Comm_group(world, &all), "MPI_Comm_group");
  check_mpi(MPI_Group_incl(all, static_cast<int>(members.size()), members.data(), &some),
            "MPI_Group_incl");
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_create_group(world, some, tag, &comm), "MPI_Comm_create_group");
  MPI_Group_free(&some);
  MPI_Group_free(&all);
  check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return OwnedComm(comm);
}

}  // namespace tessera
