// A thread per rank that sees when NCCL hangs, without asking the thread that waits for the device.
//
//     every 20 ms:
//       what the device wrote into each communicator's track  -> this rank's words on the world's board
//       NCCL met an error by itself                            -> the job fails, with NCCL's reason
//       a collective has run past the timeout                  -> the rank that lags is named; the job fails
//       a peer failed                                          -> its reason
//     where the job fails: the flight record is written, all communicators are aborted (which lets the device,
//     and so the rank's thread, go on), and verify() throws from then on.
//
// Ranks that are processes have a watchdog of the world as well (kernels/comm/watchdog.h), which also asks the
// other hosts and ends the job with exit code 124. There a collective that hangs is shown to it as a wait of this
// rank, and the thread here only steps in where it has not ended the job half a minute later.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/communicator.h"
#include "kernels/cuda/comm/flight_track.h"
#include "kernels/cuda/comm/nccl_communicator.h"

namespace tessera::cuda {

class NcclWatch {
 public:
  explicit NcclWatch(World& inner);
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;

  void set_timeout(double seconds) { timeout_ = seconds; }
  double timeout() const { return timeout_; }

  // `number` is the group's on the world's board. `track` must stay until it is removed.
  void add(int number, FlightTrack* track, std::shared_ptr<NcclCommunicator> communicator);
  void remove(const FlightTrack* track);

  // Throws PeerFailure (a peer lags or failed) or UserError (NCCL) once the job has failed.
  void verify() const;

 private:
  struct Watched {
    int number;
    FlightTrack* track;
    std::shared_ptr<NcclCommunicator> communicator;
    uint64_t hung_at = 0;  // the collective that was begun and not finished at the last look
    int64_t since = 0;     // monotonic ns
  };
  // What goes wrong: `culprit` is the rank that others shall name.
  struct Verdict {
    std::string text;
    int culprit;
    bool is_peer;
    bool is_news;  // the peers do not know it yet
  };

  void run();
  bool look();  // false: the job has failed
  bool publish(Watched& watched, int64_t now);
  void show_wait(int64_t now);
  std::string lag_text(const Watched& watched, int64_t now, int& culprit) const;
  void fail(const Verdict& verdict);
  std::string write_record(const std::string& reason);

  World& inner_;
  ProgressEngine* const engine_;
  std::atomic<double> timeout_{600};
  std::mutex mutex_;  // of watched_
  std::vector<Watched> watched_;
  bool shows_wait_ = false;
  std::atomic<bool> failed_{false};
  bool failed_by_peer_ = false;  // these two are written before failed_
  std::string failure_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tessera::cuda
