#include "core/ops/op_list.h"

#include <array>
#include <map>

#include "core/ops/accumulate.h"
#include "core/ops/attention.h"
#include "core/ops/complex.h"
#include "core/ops/contraction.h"
#include "core/ops/convolution.h"
#include "core/ops/control.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/custom_call.h"
#include "core/ops/dropout.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/embedding.h"
#include "core/ops/fp8_product.h"
#include "core/ops/fusion.h"
#include "core/ops/gather.h"
#include "core/ops/loss.h"
#include "core/ops/max_abs.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/padding.h"
#include "core/ops/permute_tokens.h"
#include "core/ops/product_epilogue.h"
#include "core/ops/ragged.h"
#include "core/ops/random.h"
#include "core/ops/reduce_window.h"
#include "core/ops/residual_norm.h"
#include "core/ops/rng.h"
#include "core/ops/routing.h"
#include "core/ops/scaled_product.h"
#include "core/ops/scan.h"
#include "core/ops/sharding.h"
#include "core/ops/sort.h"
#include "core/ops/structure.h"

namespace tessera {

std::span<const OpDef* const> all_ops() {
  using namespace ops;
  static constexpr std::array kOps = {
      // elementwise
      &kNegate,
      &kAbs,
      &kTan,
      &kCbrt,
      &kExponentialMinusOne,
      &kLogPlusOne,
      &kFloor,
      &kCeil,
      &kRoundNearestEven,
      &kRoundNearestAfz,
      &kRemainder,
      &kAtan2,
      &kShiftLeft,
      &kShiftRightArithmetic,
      &kShiftRightLogical,
      &kPopcnt,
      &kCountLeadingZeros,
      &kLogicalXor,
      &kBitcastConvert,
      &kReducePrecision,
      &kMakeComplex,
      &kReal,
      &kImag,
      &kSign,
      &kExponential,
      &kLog,
      &kTanh,
      &kSqrt,
      &kRsqrt,
      &kLogistic,
      &kErf,
      &kSine,
      &kCosine,
      &kIsFinite,
      &kLogicalNot,
      &kAdd,
      &kSubtract,
      &kMultiply,
      &kDivide,
      &kMaximum,
      &kMinimum,
      &kPower,
      &kLogicalAnd,
      &kLogicalOr,
      &kCompare,
      &kConvert,
      &kSelect,
      &kClamp,
      &kGelu,
      &kGeluGrad,
      // structure
      &kParameter,
      &kConstant,
      &kIota,
      &kBroadcastInDim,
      &kReshape,
      &kTranspose,
      &kConcatenate,
      &kSlice,
      &kPad,
      &kReverse,
      &kRotate,
      &kReduce,
      // the rest, a file each
      &kDynamicSlice,
      &kDynamicUpdateSlice,
      &kGather,
      &kScatter,
      &kSort,
      &kTopK,
      &kRngBitGenerator,
      &kCustomCall,
      &kDotGeneral,
      &kDotGeneralAdd,
      &kDotGeneralBias,
      &kDotGeneralBiasGelu,
      &kDotGeneralGeluGrad,
      &kDotGeneralBiasGrad,
      &kRaggedDot,
      &kRaggedContraction,
      &kTopKRouting,
      &kTopKRoutingGrad,
      &kExpertOrder,
      &kPermuteTokens,
      &kUnpermuteTokens,
      &kTokenDots,
      &kScaledDotGeneral,
      &kScaledDotGeneralGelu,
      &kScaledDotGeneralAdd,
      &kDotGeneralFp8,
      &kDotGeneralFp8GradLeft,
      &kDotGeneralFp8GradRight,
      &kConvolution,
      &kConvolutionKernelGrad,
      &kReduceWindow,
      &kSelectAndScatter,
      &kScan,
      &kLogSumExpScan,
      &kLinearRecurrence,
      &kLayerNorm,
      &kLayerNormGrad,
      &kRmsNorm,
      &kRmsNormGrad,
      &kAddLayerNorm,
      &kAddRmsNorm,
      &kLayerNormGradAdd,
      &kRmsNormGradAdd,
      &kSumOfSquares,
      &kMaxAbs,
      &kAttention,
      &kAttentionGrad,
      &kRotary,
      &kEmbedding,
      &kEmbeddingGrad,
      &kLogitsMax,
      &kLogitsSum,
      &kLogitsSumGrad,
      &kCrossEntropyWithGrad,
      &kAdamW,
      &kMultiAdamW,
      &kMultiSumOfSquares,
      &kRandomUniform,
      &kDropout,
      &kResizePadding,
      &kMaskPadding,
      &kReshard,
      &kAllGather,
      &kAllSlice,
      &kAllToAll,
      &kCollectivePermute,
      &kShift,
      &kAllReduce,
      &kReduceScatter,
      &kReplicatedToPartial,
      &kAxisIndex,
      &kFusion,
      // control flow
      &kCall,
      &kWhile,
      &kCase,
      &kManualComputation,
      &kOptimizationBarrier,
  };
  return kOps;
}

const OpDef* find_op(std::string_view name) {
  static const std::map<std::string_view, const OpDef*> kByName = [] {
    std::map<std::string_view, const OpDef*> by_name;
    for (const OpDef* op : all_ops())
      TESSERA_CHECK(by_name.emplace(op->name, op).second, "two ops are named ", op->name);
    return by_name;
  }();
  const auto found = kByName.find(name);
  return found == kByName.end() ? nullptr : found->second;
}

}  // namespace tessera
