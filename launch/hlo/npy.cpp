#include "launch/hlo/npy.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "\x93NUMPY";

struct DTypeName {
  DType dtype;
  std::string_view descr;  // without the byte order
};

// As written; f8e5m2 is also read as "f1", which is ml_dtypes' own name for it.
constexpr DTypeName kNames[] = {
    {DType::pred, "b1"}, {DType::s8, "i1"},       {DType::s16, "i2"},    {DType::s32, "i4"},
    {DType::s64, "i8"},  {DType::u8, "u1"},       {DType::u16, "u2"},    {DType::u32, "u4"},
    {DType::u64, "u8"},  {DType::f8e4m3fn, "V1"}, {DType::f8e5m2, "V1"}, {DType::bf16, "V2"},
    {DType::f16, "f2"},  {DType::f32, "f4"},      {DType::f64, "f8"},    {DType::c64, "c8"},
};

std::string_view name_in_numpy(DType dtype) {
  for (const DTypeName& entry : kNames)
    if (entry.dtype == dtype) return entry.descr;
  return "";
}

// The dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } and no more of Python.
class HeaderScanner {
 public:
  HeaderScanner(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  std::string descr;
  bool is_fortran = false;
  Shape shape;

  void scan() {
    expect('{');
    int found = 0;
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      ++found;
      if (key == "descr") {
        if (peek() != '\'' && peek() != '"') fail("its elements are structures, not numbers");
        descr = string();
      } else if (key == "fortran_order") {
        is_fortran = truth();
      } else if (key == "shape") {
        tuple();
      } else {
        fail(cat("the key '", key, "'"));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    if (found != 3) fail("descr, fortran_order and shape must stand there, each once");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw_user_error(path_, ": not a .npy file that can be read: ", what, ", in the header ", trim(text_));
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(cat("expected '", c, "' at character ", at_));
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail(cat("expected a string at character ", at_));
    const size_t end = text_.find(quote, ++at_);
    if (end == std::string_view::npos) fail("a string does not end");
    std::string text(text_.substr(at_, end - at_));
    at_ = end + 1;
    return text;
  }
  bool truth() {
    peek();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    fail("fortran_order is neither True nor False");
  }
  void tuple() {
    expect('(');
    while (!take(')')) {
      peek();
      int64_t size = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) fail(cat("expected a size at character ", at_));
      shape.push_back(size);
      at_ = static_cast<size_t>(end - text_.data());
      if (!take(',')) {
        expect(')');
        break;
      }
    }
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

// Bytes of the elements; nothing where they are more than there can be.
std::optional<uint64_t> bytes_of(const Shape& shape, int64_t item) {
  uint64_t bytes = static_cast<uint64_t>(item);
  for (int64_t size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes) || bytes > INT64_MAX) return std::nullopt;
  return bytes;
}

int64_t item_size_of(const std::string& descr, const std::string& path) {
  const std::string_view kind = std::string_view(descr).substr(std::min<size_t>(1, descr.size()));
  if (!descr.empty() && descr[0] == '>')
    throw_user_error(path, ": its elements are big-endian (", descr, "); save it little-endian: numpy.save(f, x.astype(x.dtype.newbyteorder('<')))");
  for (const DTypeName& entry : kNames)
    if (kind == entry.descr && (descr[0] == '<' || descr[0] == '|')) return size_of(entry.dtype);
  if (kind == "f1") return 1;
  throw_user_error(path, ": its elements are of NumPy's type '", descr, "', which no tensor has; convert it with astype");
}

}  // namespace

NpyFile::NpyFile(const std::string& path) : file_(path) {
  const std::span<const uint8_t> bytes = file_.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic)) throw_user_error(path, ": not a .npy file (it does not start with \\x93NUMPY)");
  const auto byte = [&](size_t i) { return static_cast<size_t>(bytes[i]); };
  const auto truncated = [&](uint64_t needed) {
    throw_user_error(path, ": truncated: ", needed, " bytes are needed, the file has ", bytes.size());
  };
  if (bytes.size() < 12) truncated(12);
  const size_t version = byte(6);
  if (version < 1 || version > 3) throw_user_error(path, ": version ", version, ".", byte(7), " of the format is unknown; 1.0 to 3.0 are known");
  const size_t length = version == 1 ? byte(8) + (byte(9) << 8)
                                     : byte(8) + (byte(9) << 8) + (byte(10) << 16) + (byte(11) << 24);
  const size_t start = version == 1 ? 10 : 12;
  offset_ = start + length;
  if (bytes.size() < offset_) truncated(offset_);
  HeaderScanner header(text.substr(start, length), path);
  header.scan();
  descr_ = header.descr;
  is_fortran_ = header.is_fortran;
  shape_ = header.shape;
  item_size_ = item_size_of(descr_, path);
  const std::optional<uint64_t> content = bytes_of(shape_, item_size_);
  if (!content) throw_user_error(path, ": the shape ", shape_, " of '", descr_, "' is larger than any file");
  if (bytes.size() - offset_ < *content) truncated(offset_ + *content);
  if (bytes.size() - offset_ > *content)
    throw_user_error(path, ": ", bytes.size() - offset_ - *content, " bytes follow after ", type_text(), ": ", offset_ + *content,
                     " bytes are expected, the file has ", bytes.size());
}

bool NpyFile::holds(DType dtype) const {
  const std::string_view kind = std::string_view(descr_).substr(1);
  return kind == name_in_numpy(dtype) || (kind == "f1" && dtype == DType::f8e5m2);
}

std::string NpyFile::type_text() const {
  const std::string_view kind = std::string_view(descr_).substr(1);
  if (kind == "f1") return cat(DType::f8e5m2, shape_);
  if (kind[0] != 'V')
    for (const DTypeName& entry : kNames)
      if (kind == entry.descr) return cat(entry.dtype, shape_);
  return cat(kind, shape_);
}

HostTensor NpyFile::all(DType dtype) const {
  return block(dtype, std::vector<int64_t>(static_cast<size_t>(shape_.rank()), 0), shape_);
}

HostTensor NpyFile::block(DType dtype, std::span<const int64_t> start, const Shape& shape) const {
  TESSERA_CHECK(holds(dtype) && shape.rank() == shape_.rank(), path(), " holds ", type_text(), ", not ", dtype, shape);
  HostTensor block({dtype, shape});
  if (block.elements() == 0) return block;
  // Steps between neighbours along each dim, in elements of the file.
  std::vector<int64_t> strides = shape_.strides();
  if (is_fortran_)
    for (int64_t d = 0, stride = 1; d < shape_.rank(); stride *= shape_[static_cast<int>(d++)])
      strides[static_cast<size_t>(d)] = stride;
  const int last = shape_.rank() - 1;
  const int64_t row = last < 0 ? 1 : shape[last], step = last < 0 ? 1 : strides[static_cast<size_t>(last)];
  const size_t item = static_cast<size_t>(item_size_);
  std::byte* to = block.bytes().data();
  std::vector<int64_t> position(static_cast<size_t>(shape.rank()), 0);
  Shape rows = shape;
  if (last >= 0) rows[last] = 1;
  do {
    int64_t first = 0;
    for (size_t d = 0; d < position.size(); ++d) first += (start[d] + position[d]) * strides[d];
    const uint8_t* from = file_.bytes().data() + offset_ + static_cast<size_t>(first) * item;
    if (step == 1) {
      std::memcpy(to, from, static_cast<size_t>(row) * item);
      to += static_cast<size_t>(row) * item;
      continue;
    }
    for (int64_t i = 0; i < row; ++i, to += item)
      std::memcpy(to, from + static_cast<size_t>(i * step) * item, item);
  } while (next_position(position, rows));
  if (dtype == DType::pred)
    for (std::byte& each : block.bytes()) each = std::byte(each != std::byte(0));
  return block;
}

void write_npy(const std::string& path, const HostTensor& tensor) {
  const std::string_view name = name_in_numpy(tensor.dtype());
  const char order = size_of(tensor.dtype()) == 1 ? '|' : '<';
  std::string shape = join(tensor.shape(), ", ");
  if (tensor.shape().rank() == 1) shape += ",";
  std::string header = cat("{'descr': '", order, name, "', 'fortran_order': False, 'shape': (", shape, "), }");
  // The elements start at a multiple of 64 bytes.
  const size_t start = kMagic.size() + 4;
  header.resize((start + header.size() + 1 + 63) / 64 * 64 - start - 1, ' ');
  header += '\n';
  std::string text(kMagic);
  text += {'\x01', '\x00', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  text += header;
  FileSystem& files = posix_file_system();
  const std::string unfinished = path + ".part";
  try {
    const std::unique_ptr<OutputFile> file = files.create_file(unfinished);
    file->append(std::as_bytes(std::span(text)));
    file->append(tensor.bytes());
    file->sync_and_close();
    files.rename(unfinished, path);
  } catch (const IoError&) {
    files.remove_all(unfinished);
    throw;
  }
}

}  // namespace tessera
