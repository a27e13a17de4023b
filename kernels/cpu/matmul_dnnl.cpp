#include <dnnl.hpp>

#include <map>
#include <tuple>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "kernels/cpu/matmul_tile.h"

namespace tessera::cpu {
namespace {

using dnnl::memory;

template <typename T>
constexpr memory::data_type kDnnlType = memory::data_type::f32;
template <>
constexpr memory::data_type kDnnlType<bfloat16> = memory::data_type::bf16;

dnnl::engine& engine() {
  static dnnl::engine value(dnnl::engine::kind::cpu, 0);
  return value;
}

// A primitive for one tile shape, with its own memory objects to point at operands. Each thread
// keeps its own: a primitive built on a thread of a parallel region is sequential.
struct TileProduct {
  dnnl::matmul primitive;
  memory a, b, c;
};

using Key = std::tuple<bool, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double,
                       double, bool>;

template <typename Out>
TileProduct make_product(const GemmShape& tile, double alpha, double beta) {
  const auto strides = [](bool transposed, int64_t ld) {
    return transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  };
  const memory::desc a({tile.m, tile.k}, memory::data_type::bf16,
                       strides(tile.transpose_a, tile.lda));
  const memory::desc b({tile.k, tile.n}, memory::data_type::bf16,
                       strides(tile.transpose_b, tile.ldb));
  const memory::desc c({tile.m, tile.n}, kDnnlType<Out>, memory::dims{tile.ldc, 1});
  dnnl::primitive_attr attr;
  dnnl::post_ops post;
#if DNNL_VERSION_MAJOR >= 3
  if (alpha != 1)
    post.append_eltwise(dnnl::algorithm::eltwise_linear, static_cast<float>(alpha), 0.0f);
  if (beta != 0) post.append_sum(static_cast<float>(beta));
  attr.set_post_ops(post);
  const dnnl::matmul::primitive_desc description(engine(), a, b, c, attr);
#else
  if (alpha != 1) attr.set_output_scales(0, {static_cast<float>(alpha)});
  if (beta != 0) post.append_sum(static_cast<float>(beta));
  attr.set_post_ops(post);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attr, engine());
#endif
  return {dnnl::matmul(description), memory(a, engine(), nullptr), memory(b, engine(), nullptr),
          memory(c, engine(), nullptr)};
}

template <typename Out>
void bf16_tile(const GemmShape& tile, double alpha, const bfloat16* a, const bfloat16* b,
               double beta, Out* c) {
  thread_local std::map<Key, TileProduct> products;
  const Key key{tile.transpose_a,
                tile.transpose_b,
                tile.m,
                tile.n,
                tile.k,
                tile.lda,
                tile.ldb,
                tile.ldc,
                alpha,
                beta,
                std::is_same_v<Out, float>};
  auto found = products.find(key);
  try {
    if (found == products.end()) {
      // Shapes vary little in a training run; what varies without end is not worth keeping.
      if (products.size() > 512) products.clear();
      found = products.emplace(key, make_product<Out>(tile, alpha, beta)).first;
    }
    TileProduct& product = found->second;
    product.a.set_data_handle(const_cast<bfloat16*>(a));
    product.b.set_data_handle(const_cast<bfloat16*>(b));
    product.c.set_data_handle(c);
    thread_local dnnl::stream stream(engine());
    product.primitive.execute(
        stream,
        {{DNNL_ARG_SRC, product.a}, {DNNL_ARG_WEIGHTS, product.b}, {DNNL_ARG_DST, product.c}});
    stream.wait();
  } catch (const dnnl::error& error) {
    TESSERA_CHECK(false, "oneDNN failed on a bf16 product of ", tile.m, " x ", tile.n, " x ",
                  tile.k, ": ", error.what());
  }
}

}  // namespace

bool dnnl_has_bf16() {
  const auto isa = dnnl::get_effective_cpu_isa();
#if DNNL_VERSION_MAJOR >= 3
  if (isa == dnnl::cpu_isa::avx512_core_fp16) return true;  // its instructions include bf16's
#endif
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

void dnnl_tile(const GemmShape& tile, double alpha, const float* a, const float* b, double beta,
               float* c) {
  const dnnl_status_t status = dnnl_sgemm(
      tile.transpose_a ? 'T' : 'N', tile.transpose_b ? 'T' : 'N', tile.m, tile.n, tile.k,
      static_cast<float>(alpha), a, tile.lda, b, tile.ldb, static_cast<float>(beta), c, tile.ldc);
  TESSERA_CHECK(status == dnnl_success, "oneDNN failed (status ", static_cast<int>(status),
                ") on a product of ", tile.m, " x ", tile.n, " x ", tile.k);
}

void dnnl_tile(const GemmShape& tile, double alpha, const bfloat16* a, const bfloat16* b,
               double beta, bfloat16* c) {
  bf16_tile(tile, alpha, a, b, beta, c);
}

void dnnl_tile(const GemmShape& tile, double alpha, const bfloat16* a, const bfloat16* b,
               double beta, float* c) {
  bf16_tile(tile, alpha, a, b, beta, c);
}

}  // namespace tessera::cpu
