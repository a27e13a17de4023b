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
  // Rank 0's own words where it failed too: most often all ranks see the same.
  for (const Outcome& outcome : outcomes)
    if (outcome.failed())
      throw_failure(outcome.failure, outcomes[0].failed() ? outcomes[0].error : first_error(outcomes));
  return data;
}

}  // namespace tessera
