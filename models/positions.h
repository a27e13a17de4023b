// What tells attention where tokens stand, other than rotary and learned positions: biases by
// distance, and segments of packed documents.
#pragma once

#include <cstdint>
#include <vector>

#include "models/parameters.h"

namespace tessera::models {

// ALiBi (Press et al. 2022): head h of H adds -slope(h) x distance to its scores, with slopes
// 2^(-8/H), 2^(-16/H), ... If H is no power of two: those of the next smaller power P, then every
// other one of 2P, as in the authors' code.
std::vector<double> alibi_slopes(int64_t heads);
// [heads, distances] in the parameters' dtype; no parameters.
Value alibi_bias(ParameterScope& scope, int64_t heads, int64_t distances);

// T5's bucket of a key that lies `distance` >= 0 tokens back (Raffel et al. 2020, decoder): one for
// each distance below buckets / 2, then logarithmically wider ones; the last holds all from
// max_distance on.
int64_t relative_bucket(int64_t distance, int64_t buckets, int64_t max_distance);
// [heads, min(length, max_distance + 1)] from the parameter "relative_positions.weight"
// [buckets, heads], which starts at normal(0, init_std).
Value relative_bias(ParameterScope& scope, int64_t heads, int64_t length, int64_t buckets,
                    int64_t max_distance, double init_std);

// tokens s32 [batch, length] -> s32 [batch, length]: how many documents ended before or at a token.
// The end token itself opens the segment of the document that follows: it is what that one's first
// token is predicted from, so that no prediction reaches across documents.
Value document_segments(Builder& builder, Value tokens, int64_t end_token);

}  // namespace tessera::models
