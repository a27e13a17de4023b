// The mesh of a job: what --mesh says, and how its sizes meet the number of devices.
#pragma once

#include <string>

#include "launch/config/origins.h"
#include "launch/config/problems.h"

namespace tessera::proto {
class JobConfig;
}

namespace tessera::config {

// "data=2,model=4".
std::string mesh_text(const std::vector<MeshAxisConfig>& axes);

// Replaces the mesh of `root.sharding` by `text`: axis=size pairs, major to minor. Axes that the
// config has and `text` does not name get size 1; "1" alone gives every axis size 1. An axis of
// more than one device that neither the mesh nor a rule knows is a problem.
void apply_mesh_flag(const std::string& text, proto::JobConfig& root, Origins& origins,
                     Problems& problems);

// Fills in the size that is -1 and checks the product against `device_count` (0: unknown).
// Sets job.device_count; false, with problems, when mesh and devices do not meet.
bool resolve_mesh(int64_t device_count, JobConfig& job, Problems& problems);

// The data shards: by how many devices the rules divide dim `batch` of a [batch, length] tensor.
int64_t count_batch_shards(const JobConfig& job);

// Solves global_batch = data shards x microbatch x accumulate for what is not given, or states the
// equation that has no solution. Sets job.batch_shards, train.microbatch and train.accumulate.
void resolve_batch(bool microbatch_given, bool accumulate_given, JobConfig& job,
                   Problems& problems);

}  // namespace tessera::config
