// The loss on held-out text.
#pragma once

#include "launch/data/text_dataset.h"
#include "launch/engine/session.h"

namespace tessera {

// Nats per token over `heldout`, or over its first eval.batches global batches. Collective.
double evaluate_dataset(Session& session, const TextDataset& heldout);

}  // namespace tessera
