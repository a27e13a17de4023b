#include "launch/engine/job_data.h"

namespace tessera {

TextData open_job_data(const JobConfig& job) {
  return open_text_data({.paths = job.data.paths,
                         .eval_paths = job.data.eval_paths,
                         .holdout = job.data.holdout,
                         .length = job.train.sequence_length,
                         .corpus = {.separator = job.data.document_separator}});
}

}  // namespace tessera
