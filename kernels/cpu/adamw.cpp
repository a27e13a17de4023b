#include "kernels/cpu/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"

namespace tessera::cpu {

template <typename T>
void adamw(int64_t n, const AdamWStep& step, const T* param, const T* m, const T* v, const T* grad,
           T* param_out, T* m_out, T* v_out, bfloat16* narrow) {
  if (!std::isfinite(step.grad_scale)) {
    std::copy_n(param, param_out == param ? 0 : n, param_out);
    std::copy_n(m, m_out == m ? 0 : n, m_out);
    std::copy_n(v, v_out == v ? 0 : n, v_out);
    if (narrow != nullptr)
      for (int64_t i = 0; i < n; ++i) narrow[i] = bfloat16(static_cast<float>(param[i]));
    return;
  }
  using V = simd::Vec<T>;
  const T beta1 = T(step.beta1), beta2 = T(step.beta2), grad_scale = T(step.grad_scale);
  const T rest1 = T(1 - step.beta1), rest2 = T(1 - step.beta2);
  const T correct1 = T(1 / step.bias_correction1), correct2 = T(1 / step.bias_correction2);
  const T rate = T(step.learning_rate), decay = T(step.weight_decay), epsilon = T(step.epsilon);
  parallel_ranges(n, 32768, [&](int64_t begin, int64_t end) {
    simd::for_each_vector<T>(end - begin, [&](auto load, auto store) {
      const V g = load(grad + begin) * grad_scale;
      const V first = load(m + begin) * beta1 + g * rest1;
      const V second = load(v + begin) * beta2 + g * g * rest2;
      const V old = load(param + begin);
      const V root = simd::sqrt(second * correct2) + epsilon;
      const V updated = old - rate * (first * correct1 / root + decay * old);
      store(m_out + begin, first);
      store(v_out + begin, second);
      store(param_out + begin, updated);
      if constexpr (std::is_same_v<T, float>) {
        if (narrow != nullptr) store(narrow + begin, updated);
      }
    });
  });
}

template void adamw(int64_t, const AdamWStep&, const float*, const float*, const float*,
                    const float*, float*, float*, float*, bfloat16*);
template void adamw(int64_t, const AdamWStep&, const double*, const double*, const double*,
                    const double*, double*, double*, double*, bfloat16*);

}  // namespace tessera::cpu
