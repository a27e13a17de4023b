#include "launch/engine/job_data.h"

#include "launch/checkpoint/agreement.h"

namespace tessera {

TextData open_job_data(const JobConfig& job, World& world) {
  TextData data;
  const std::vector<Outcome> outcomes = run_on_all(&world, [&] {
    data = open_text_data({.paths = job.data.paths,
                           .eval_paths = job.data.eval_paths,
                           .holdout = job.data.holdout,
                           .length = job.train.sequence_length,
                           .corpus = {.separator = job.data.document_separator,
                                      .validate = world.local_rank() == 0}});
    return std::string();
  });
  if (const auto failure = common_failure(outcomes)) throw_failure(failure->failure, failure->error);
  return data;
}

}  // namespace tessera
