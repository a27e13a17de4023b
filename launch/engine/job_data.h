// The text that a job trains and is evaluated on.
#pragma once

#include "launch/config/job_config.h"
#include "launch/data/text_dataset.h"

namespace tessera {

// Opens, splits and packs job.data for sequences of train.sequence_length. Throws as open_text_data.
TextData open_job_data(const JobConfig& job);

}  // namespace tessera
