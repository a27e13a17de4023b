// The text that a job trains and is evaluated on.
#pragma once

#include "core/runtime/communicator.h"
#include "launch/config/job_config.h"
#include "launch/data/text_dataset.h"

namespace tessera {

// Opens, splits and packs job.data for sequences of train.sequence_length. One rank of each host
// reads all of it to see that it is UTF-8, the others take its word. Collective; what one rank
// finds wrong is thrown on all of them. Throws as open_text_data.
TextData open_job_data(const JobConfig& job, World& world);

}  // namespace tessera
