// Collectives that travel together: which share a bucket, and how the members lie in its flat buffer.
// What bucket_collectives and bucket_shards have in common.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

#include "core/mesh/sharding.h"

namespace tessera {

// Instructions join the open bucket of their key in program order.
template <typename Key>
class BucketPlan {
 public:
  struct Bucket {
    Key key;
    std::vector<int> members;  // instructions, in program order
    int64_t bytes = 0;
  };

  // A bucket that would hold more than `limit` bytes is closed, and another begun.
  void add(const Key& key, int instruction, int64_t bytes, int64_t limit) {
    auto found = open_.find(key);
    if (found == open_.end() || buckets_[found->second].bytes + bytes > limit) {
      found = open_.insert_or_assign(key, buckets_.size()).first;
      buckets_.push_back({key, {}, 0});
    }
    buckets_[found->second].members.push_back(instruction);
    buckets_[found->second].bytes += bytes;
    bucket_of_[instruction] = found->second;
  }

  // The bucket of an instruction; nullptr where it has none.
  const Bucket* of(int instruction) const {
    const auto found = bucket_of_.find(instruction);
    return found == bucket_of_.end() ? nullptr : &buckets_[found->second];
  }

  // No more members.
  void close(const Bucket& bucket) {
    const auto found = open_.find(bucket.key);
    if (found != open_.end() && &buckets_[found->second] == &bucket) open_.erase(found);
  }

 private:
  std::map<Key, size_t> open_;
  std::vector<Bucket> buckets_;
  std::map<int, size_t> bucket_of_;
};

// The order in which members lie in the buffer: odd sizes last, so that all others begin on cache
// lines and can be views.
template <typename BytesOf>
std::vector<int> buffer_order(std::vector<int> members, const BytesOf& bytes_of) {
  std::stable_partition(members.begin(), members.end(),
                        [&](int member) { return bytes_of(member) % 64 == 0; });
  return members;
}

// All axes that tell blocks of the members apart, in the order of the mesh: the buffer lies along
// them, block by block.
template <typename Members, typename ShardingOf>
AxisList block_axes(const Members& members, const ShardingOf& sharding_of) {
  AxisList axes;
  for (int member : members) {
    const AxisList used = sharding_of(member).without_partial().used_axes();
    axes = concat(axes, without(used, axes));
  }
  std::sort(axes.begin(), axes.end());
  return canonical(axes);
}

}  // namespace tessera
