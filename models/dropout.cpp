#include "models/dropout.h"

#include "core/ops/dropout.h"

namespace tessera::models {

Value Dropout::operator()(Builder& builder, Value x) {
  if (rate_ <= 0) return x;
  return ops::dropout(builder, x, step_, row_, {.rate = rate_, .seed = seed_, .site = next_site_++});
}

}  // namespace tessera::models
