// Whether a job's memory plan fits the devices it is to run on, asked before anything is allocated.
#pragma once

#include "launch/engine/compiled_job.h"
#include "launch/engine/rank_device.h"

namespace tessera {

// Collective. Throws AgreedError where the ranks that share a GPU need more bytes together than are free there: how
// much, what for, the largest buffers, and which settings need less. The host's memory is not asked about, its
// system can page.
void check_memory_fits(const CompiledJob& job, RankDevice& device);

}  // namespace tessera
