// The text of generated kernels, and that the real NVRTC takes it, which needs no GPU.
#include "kernels/cuda/fusion/fusion_source.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "tests/gpu/fusion/elementwise_cases.h"
#include "tests/gpu/fusion/random_fusion.h"

namespace tessera::cuda {
namespace {

// gelu(x + bias) and x * 2 on [rows, columns].
GraphRef bias_and_gelu(DType dtype, int64_t rows, int64_t columns) {
  auto body = std::make_shared<Graph>();
  Builder b(*body);
  const Shape shape{rows, columns};
  const Value x = b.input(InputKind::data, "x", {dtype, shape});
  const Value bias = b.input(InputKind::data, "bias", {dtype, {columns}});
  b.output(ops::gelu(b, ops::add(b, x, ops::broadcast_last(b, bias, shape)), true), "y");
  b.output(ops::scale(b, x, 2), "z");
  return body;
}

FusionSource source_of(const GraphRef& body, int alignment = 16) {
  return fusion_source(walk_fusion(*body), static_cast<int>(body->inputs.size()), alignment, "fusion");
}

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(FusionSource, EqualBodiesGiveEqualText) {
  const FusionSource one = source_of(bias_and_gelu(DType::f32, 8, 24));
  EXPECT_EQ(one.text, source_of(bias_and_gelu(DType::f32, 8, 24)).text);
  EXPECT_EQ(one.text, source_of(bias_and_gelu(DType::f32, 1000, 24)).text) << "rows are an argument";
  EXPECT_NE(one.name, source_of(bias_and_gelu(DType::f32, 8, 25)).name);
  EXPECT_NE(one.name, source_of(bias_and_gelu(DType::bf16, 8, 24)).name);
  EXPECT_TRUE(one.name.starts_with("fusion_"));
}

TEST(FusionSource, ReadsPacksWhereTheyLie) {
  const FusionSource even = source_of(bias_and_gelu(DType::bf16, 8, 24));
  EXPECT_EQ(even.lanes, 8);
  EXPECT_TRUE(holds(even.text, "load<bf16, kLanes>")) << even.text;
  EXPECT_TRUE(holds(even.text, "gather<bf16, kLanes, (kLanes > 1 ? 8 : 1), 1>(arguments.pointer[1], at, "
                               "[](u32 at) { return at % 24u; })"))
      << even.text;
  // A pack goes over the end of a row: the bias is read element by element, x is not.
  const FusionSource odd = source_of(bias_and_gelu(DType::bf16, 8, 25));
  EXPECT_EQ(odd.lanes, 8);
  EXPECT_TRUE(holds(odd.text, "gather<bf16, kLanes, 1, 1>")) << odd.text;
  EXPECT_EQ(source_of(bias_and_gelu(DType::bf16, 8, 24), 4).lanes, 2) << "addresses are even multiples of 4 bytes";
}

TEST(FusionSource, PositionsHave64BitsWhereTheyMust) {
  EXPECT_TRUE(holds(source_of(bias_and_gelu(DType::bf16, int64_t{1} << 21, 1024)).text, "u32 at"));
  EXPECT_TRUE(holds(source_of(bias_and_gelu(DType::bf16, (int64_t{1} << 21) + 1, 1024)).text, "u64 at"));
}

TEST(FusionSource, ManyOperandsMakeSmallPacks) {
  for (const auto& [count, lanes] : {std::pair{6, 4}, {12, 4}, {30, 2}, {60, 1}}) {
    auto body = std::make_shared<Graph>();
    Builder b(*body);
    Value sum = b.input(InputKind::data, "x", {DType::f32, {640}});
    for (int i = 1; i < count; ++i) sum = ops::add(b, sum, b.input(InputKind::data, cat("x", i), {DType::f32, {640}}));
    b.output(sum, "y");
    EXPECT_EQ(source_of(body).lanes, lanes) << count;
  }
}

TEST(FusionSource, ConstantsAreBits) {
  auto body = std::make_shared<Graph>();
  Builder b(*body);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {4}});
  b.output(ops::scale(b, x, 0.1), "y");
  EXPECT_TRUE(holds(source_of(body).text, "f32_of(0x3dcccccdu)")) << source_of(body).text;
}

// ---- With NVRTC itself --------------------------------------------------------------------------

// What of NVRTC is used, from its library; null members where there is none.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*compile)(Program, int, const char* const*) = nullptr;
  int (*log_size)(Program, size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int (*ptx_size)(Program, size_t*) = nullptr;
  int (*ptx)(Program, char*) = nullptr;
  int (*cubin_size)(Program, size_t*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  std::string missing;

  Nvrtc() {
    void* library = nullptr;
    for (const char* name : {"libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.13"})
      if (!library) library = dlopen(name, RTLD_NOW);
    if (!library) {
      missing = cat("NVRTC is not here: ", dlerror());
      return;
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    find(create, "nvrtcCreateProgram");
    find(compile, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(ptx_size, "nvrtcGetPTXSize");
    find(ptx, "nvrtcGetPTX");
    find(cubin_size, "nvrtcGetCUBINSize");
    find(destroy, "nvrtcDestroyProgram");
  }
};

// The program's PTX; fails the test where NVRTC does not take it.
std::string compile(const Nvrtc& nvrtc, const std::map<std::string, std::string>& kernels, const std::string& arch) {
  std::string source = fusion_prelude();
  for (const auto& [name, text] : kernels) source += text;
  Nvrtc::Program program = nullptr;
  EXPECT_EQ(nvrtc.create(&program, source.c_str(), "kernels.cu", 0, nullptr, nullptr), 0);
  const std::string target = cat("--gpu-architecture=", arch);
  const char* const options[] = {target.c_str(), "--std=c++17", "--fmad=false"};
  const int result = nvrtc.compile(program, 3, options);
  size_t size = 0;
  nvrtc.log_size(program, &size);
  std::string log(size, '\0'), ptx;
  nvrtc.log(program, log.data());
  EXPECT_EQ(result, 0) << log.substr(0, 4000);
  if (result == 0) {
    size_t machine_code = 0;
    nvrtc.cubin_size(program, &machine_code);
    EXPECT_GT(machine_code, 0u);
    nvrtc.ptx_size(program, &size);
    ptx.resize(size);
    nvrtc.ptx(program, ptx.data());
  }
  nvrtc.destroy(&program);
  return ptx;
}

std::map<std::string, std::string> all_kernels(bool has_every_dtype) {
  std::map<std::string, std::string> kernels;
  const auto add = [&](const FusionSource& source) {
    EXPECT_EQ(source.refusal, "");
    kernels[source.name] = source.text;
  };
  const auto is_common = [](DType dtype) {
    return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::s32 || dtype == DType::pred;
  };
  for (const testing::ElementwiseCase& one : testing::elementwise_cases({5, 7})) {
    if (!has_every_dtype && !(is_common(one.operands.back().dtype) && is_common(one.result.dtype))) continue;
    Instruction instruction;
    instruction.op = one.op;
    instruction.attributes = one.attributes;
    const TensorType results[] = {one.result};
    add(fusion_source(walk_elementwise(instruction, one.operands, results), static_cast<int>(one.operands.size()), 16,
                      std::string(one.op->name)));
  }
  std::mt19937 random(11);
  for (const testing::BroadcastShapes& shapes : testing::broadcast_shapes())
    for (int i = 0; i < 2; ++i) add(source_of(testing::RandomFusion(random, shapes.shape, shapes.narrow).body(12, 2)));
  return kernels;
}

TEST(FusionSource, NvrtcTakesEveryOp) {
  const Nvrtc nvrtc;
  if (!nvrtc.missing.empty()) GTEST_SKIP() << nvrtc.missing;
  for (const char* arch : {"sm_80", "sm_90"}) compile(nvrtc, all_kernels(false), arch);
}
TEST(FusionSourceLong, NvrtcTakesEveryOpAtEveryDtype) {
  const Nvrtc nvrtc;
  if (!nvrtc.missing.empty()) GTEST_SKIP() << nvrtc.missing;
  for (const char* arch : {"sm_80", "sm_90", "sm_100"}) compile(nvrtc, all_kernels(true), arch);
}

TEST(FusionSource, PacksAreAccessesOf16Bytes) {
  const Nvrtc nvrtc;
  if (!nvrtc.missing.empty()) GTEST_SKIP() << nvrtc.missing;
  for (DType dtype : {DType::bf16, DType::f32}) {
    const FusionSource source = source_of(bias_and_gelu(dtype, 64, 768));
    const std::string ptx = compile(nvrtc, {{source.name, source.text}}, "sm_90");
    const auto count = [&](const std::string& part) {
      int found = 0;
      for (size_t at = ptx.find(part); at != std::string::npos; at = ptx.find(part, at + 1)) ++found;
      return found;
    };
    EXPECT_EQ(count("ld.global.v4"), 2) << ptx;
    EXPECT_EQ(count("st.global.v4"), 2) << ptx;
    EXPECT_EQ(count(".local"), 0) << "a pack lies in memory";
  }
}

}  // namespace
}  // namespace tessera::cuda
