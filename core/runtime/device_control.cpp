#include "core/runtime/device_control.h"

#include "core/base/error.h"

namespace tessera {
namespace {

// Replaces what the devices of the list hold.
void update(std::vector<Shards>& values, std::vector<Shards> news, const Devices& devices) {
  for (size_t i = 0; i < values.size(); ++i)
    for (int64_t device : devices)
      values[i][static_cast<size_t>(device)] = std::move(news[i][static_cast<size_t>(device)]);
}

}  // namespace

std::vector<Shards> run_loop(const DeviceControl& control, const Attributes& attributes,
                             std::vector<Shards> carried, const Devices& devices) {
  const Graph &condition = *attributes.get<GraphRef>(Attr::condition),
              &body = *attributes.get<GraphRef>(Attr::body);
  const int64_t known = attributes.get_or<int64_t>(Attr::trip_count, -1);
  Devices turning = devices;
  for (int64_t turn = 0;; ++turn) {
    const Shards verdict = control.run(condition, carried, turning)[0];
    turning = control.choose(verdict, turning, [](int64_t goes_on) { return goes_on != 0; });
    if (turning.empty()) return carried;
    if (known >= 0 && turn >= known)
      throw_user_error("while: the loop with body \"", body.name, "\" goes on after its trip_count of ",
                       known, " turns");
    update(carried, control.run(body, carried, turning), turning);
  }
}

std::vector<Shards> run_branch(const DeviceControl& control, const Attributes& attributes,
                               std::vector<Shards> operands, const Devices& devices) {
  const auto& branches = attributes.get<Graphs>(Attr::branches);
  const auto count = static_cast<int64_t>(branches.size());
  const Shards index = std::move(operands[0]);
  operands.erase(operands.begin());
  std::vector<Shards> results(branches[0]->outputs.size(), Shards(index.size()));
  for (int64_t b = 0; b < count; ++b) {
    const Devices here = control.choose(index, devices, [&](int64_t wanted) {
      return (wanted < 0 || wanted >= count ? count - 1 : wanted) == b;
    });
    if (!here.empty())
      update(results, control.run(*branches[static_cast<size_t>(b)], operands, here), here);
  }
  return results;
}

}  // namespace tessera
