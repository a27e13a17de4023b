// .npy files: what NumPy writes is read, what is written is what NumPy writes.
#include "launch/hlo/npy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/strings.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

// As numpy.save writes it.
std::string npy(const std::string& dictionary, const std::string& elements, int version = 1) {
  std::string header = dictionary + "\n";
  std::string text = "\x93NUMPY";
  text += {static_cast<char>(version), '\0', static_cast<char>(header.size() & 255),
           static_cast<char>(header.size() >> 8)};
  if (version > 1) text += std::string(2, '\0');
  return text + header + elements;
}

template <typename T>
std::string bytes_of(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

class Npy : public testing::Test {
 protected:
  NpyFile open(const std::string& text) { return NpyFile(folder_.write("x.npy", text)); }
  std::string refusal(const std::string& text) {
    try {
      open(text);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  void expect_refused(const std::string& text, const std::vector<std::string>& words) {
    const std::string message = refusal(text);
    for (const std::string& word : words)
      EXPECT_NE(message.find(word), std::string::npos) << "\"" << message << "\" lacks \"" << word << "\"";
    EXPECT_NE(message.find("x.npy"), std::string::npos) << message;
  }

  TempFolder folder_;
};

TEST_F(Npy, ReadsAllVersionsAndBothOrders) {
  const std::string elements = bytes_of<float>({0, 1, 2, 3, 4, 5});
  for (int version : {1, 2, 3}) {
    const NpyFile file = open(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", elements, version));
    EXPECT_EQ(file.shape(), Shape({2, 3}));
    EXPECT_EQ(file.type_text(), "f32[2,3]");
    EXPECT_EQ(file.all(DType::f32), HostTensor::of<float>({2, 3}, std::array<float, 6>{0, 1, 2, 3, 4, 5}));
  }
  const NpyFile fortran = open(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", elements));
  EXPECT_EQ(fortran.all(DType::f32), HostTensor::of<float>({2, 3}, std::array<float, 6>{0, 2, 4, 1, 3, 5}));
  const std::vector<int64_t> start = {1, 1};
  EXPECT_EQ(fortran.block(DType::f32, start, {1, 2}), HostTensor::of<float>({1, 2}, std::array<float, 2>{3, 5}));
}

TEST_F(Npy, ReadsScalarsEmptyArraysAndOtherQuotes) {
  EXPECT_EQ(open(npy("{\"descr\":\"<i4\",\"fortran_order\":False,\"shape\":()}", bytes_of<int32_t>({7}))).all(DType::s32).get_int(0), 7);
  EXPECT_EQ(open(npy("{'descr': '<i4', 'fortran_order': False, 'shape': (0, 3)}", "")).all(DType::s32).elements(), 0);
  const HostTensor preds = open(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", std::string("\x02\0", 2))).all(DType::pred);
  EXPECT_EQ(preds.get_int(0), 1);
  EXPECT_EQ(preds.get_int(1), 0);
}

TEST_F(Npy, NarrowFloatsAreRawBytes) {
  const NpyFile raw = open(npy("{'descr': '<V2', 'fortran_order': False, 'shape': (1,), }", bytes_of<uint16_t>({0x3fc0})));
  EXPECT_TRUE(raw.holds(DType::bf16));
  EXPECT_FALSE(raw.holds(DType::f16));
  EXPECT_EQ(raw.type_text(), "V2[1]");
  EXPECT_EQ(raw.all(DType::bf16).get_real(0), 1.5);
  EXPECT_TRUE(open(npy("{'descr': '<f1', 'fortran_order': False, 'shape': (1,), }", "0")).holds(DType::f8e5m2));
}

TEST_F(Npy, RefusalsNameTheFileAndSayWhy) {
  const auto header = [](const std::string& descr) {
    return cat("{'descr': ", descr, ", 'fortran_order': False, 'shape': (2,), }");
  };
  expect_refused("hello", {"not a .npy file"});
  expect_refused("", {"not a .npy file"});
  expect_refused("\x93NUMPY\x01", {"truncated", "12 bytes are needed, the file has 7"});
  expect_refused(npy(header("'<f4'"), bytes_of<float>({1})), {"truncated", "are needed, the file has"});
  expect_refused(npy(header("'<f4'"), bytes_of<float>({1, 2, 3})), {"4 bytes follow after f32[2]"});
  expect_refused(npy(header("'<f4'"), "", 9), {"version 9.0"});
  expect_refused(npy(header("'>f4'"), bytes_of<float>({1, 2})), {"big-endian (>f4)", "newbyteorder"});
  expect_refused(npy(header("'<c16'"), std::string(32, 'x')), {"'<c16'", "astype"});
  expect_refused(npy(header("'|O'"), ""), {"'|O'"});
  expect_refused(npy(header("[('a', '<f4')]"), ""), {"structures"});
  expect_refused(npy("{'descr': '<f4', 'fortran_order': False}", ""), {"shape must stand there"});
  expect_refused(npy("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", ""), {"neither True nor False"});
  expect_refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", ""), {"expected a size"});
  expect_refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}", ""), {"larger than any file"});
  std::string endless = npy(header("'<f4'"), "");
  endless[9] = '\x7f';
  expect_refused(endless, {"truncated"});
}

RC_GTEST_PROP(NpyRoundTrip, WhatIsWrittenReadsBack, ()) {
  const DType dtype = *rc::gen::elementOf(std::vector<DType>(all_dtypes().begin(), all_dtypes().end()));
  Shape shape;
  for (int64_t size : *rc::gen::resize(4, rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, 5)))) shape.push_back(size);
  HostTensor tensor({dtype, shape});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, static_cast<double>(dtype == DType::pred ? i % 2 : i % 7));
  const TempFolder folder;
  write_npy(folder / "x.npy", tensor);
  const NpyFile file(folder / "x.npy");
  RC_ASSERT(file.holds(dtype));
  RC_ASSERT(file.all(dtype) == tensor);
  RC_ASSERT(!std::filesystem::exists(folder / "x.npy.part"));
}

TEST_F(Npy, WritesWhatNumPyWrites) {
  write_npy(folder_ / "y.npy", HostTensor::of<float>({3}, std::array<float, 3>{1, 2, 3}));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
  header.resize(117, ' ');
  EXPECT_EQ(read_whole_file(folder_ / "y.npy"), npy(header, bytes_of<float>({1, 2, 3})));
}

TEST_F(Npy, AFolderThatCannotBeWrittenIsNamed) {
  try {
    write_npy(folder_ / "nowhere/y.npy", HostTensor(TensorType{DType::f32, {1}}));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("nowhere/y.npy"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tessera
