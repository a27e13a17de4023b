// NumPy's files of arrays (.npy): what goes into and comes out of a program in HLO text.
//
// The format is NumPy's own, versions 1.0 to 3.0: a magic string, a header that is a Python
// dictionary, and the elements, little-endian, in C or Fortran order. NumPy knows no bf16 and no f8:
// with ml_dtypes it writes them as raw bytes ('<V2', '<V1'), so a reader must know what they are.
#pragma once

#include <span>
#include <string>

#include "core/types/host_tensor.h"
#include "launch/data/mapped_file.h"

namespace tessera {

class NpyFile {
 public:
  // Reads the header. Throws UserError naming the file: unreadable, no .npy, truncated (with both
  // sizes), big-endian, or of elements that are no numbers.
  explicit NpyFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const Shape& shape() const { return shape_; }
  // Whether the elements can be of this type.
  bool holds(DType dtype) const;
  std::string type_text() const;  // for messages: "f32[8,16]"; "V2[8]" where NumPy does not know

  // The block that starts at `start`, whatever the order in the file; only its pages are read.
  HostTensor block(DType dtype, std::span<const int64_t> start, const Shape& shape) const;
  HostTensor all(DType dtype) const;

 private:
  MappedFile file_;
  std::string descr_;  // NumPy's name of the type: "<f4"
  bool is_fortran_ = false;
  Shape shape_;
  size_t offset_ = 0;      // of the elements
  int64_t item_size_ = 0;  // bytes
};

// Writes the tensor in C order, version 1.0; the file is there whole or not at all. Throws UserError.
void write_npy(const std::string& path, const HostTensor& tensor);

}  // namespace tessera
