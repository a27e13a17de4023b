#include "partitioner/hlo/device_list.h"

#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/device_list_text.h"

namespace tessera::hlo {

int64_t device_product(std::span<const int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor < 1 || factor > kMaxDevices / product) return -1;
    product *= factor;
  }
  return product;
}

int64_t DeviceList::devices() const {
  const int64_t product = device_product(dims);
  if (product < 0)
    throw_user_error("[", join(dims, ","), "] is more than ", kMaxDevices, " devices");
  return product;
}

std::vector<int64_t> DeviceList::expand() const {
  if (!is_iota) return list;
  std::vector<int64_t> strides(reshape.size(), 1), sizes(reshape.size());
  for (size_t i = reshape.size(); i-- > 1;) strides[i - 1] = strides[i] * reshape[i];
  std::vector<int64_t> turned_strides = strides;
  for (size_t i = 0; i < reshape.size(); ++i) {
    const size_t from = transpose.empty() ? i : static_cast<size_t>(transpose[i]);
    sizes[i] = reshape[from];
    turned_strides[i] = strides[from];
  }
  std::vector<int64_t> all(static_cast<size_t>(devices()));
  std::vector<int64_t> digits(sizes.size(), 0);
  int64_t device = 0;
  for (int64_t& entry : all) {
    entry = device;
    for (size_t i = sizes.size(); i-- > 0;) {
      device += turned_strides[i];
      if (++digits[i] < sizes[i]) break;
      device -= sizes[i] * turned_strides[i];
      digits[i] = 0;
    }
  }
  return all;
}

void scan_iota(NotationScanner& scanner, DeviceList& list) {
  list.is_iota = true;
  scanner.expect("[");
  list.reshape = scanner.integers("]");
  if (list.reshape.empty()) scanner.fail("a number before ']'");
  if (scanner.accept("T")) {
    scanner.expect("(");
    list.transpose = scanner.integers(")");
  }
}

void check_device_list(NotationScanner& scanner, const DeviceList& list) {
  const int64_t count = device_product(list.dims);
  for (const int64_t dim : list.dims)
    if (dim < 1)
      scanner.refuse(cat("[", join(list.dims, ","), "] holds ", dim, "; sizes start at 1"));
  if (count < 0)
    scanner.refuse(cat("[", join(list.dims, ","), "] is more than ", kMaxDevices, " devices"));
  if (list.is_iota) {
    if (device_product(list.reshape) != count)
      scanner.refuse(cat("[", join(list.dims, ","), "] holds ", count, " devices, but [",
                         join(list.reshape, ","), "] another number"));
    if (list.transpose.empty()) return;
    std::vector<bool> seen(list.reshape.size(), false);
    bool fits = list.transpose.size() == list.reshape.size();
    for (const int64_t dim : list.transpose) {
      fits = fits && dim >= 0 && dim < static_cast<int64_t>(seen.size()) &&
             !seen[static_cast<size_t>(dim)];
      if (!fits) break;
      seen[static_cast<size_t>(dim)] = true;
    }
    if (!fits)
      scanner.refuse(cat("T(", join(list.transpose, ","), ") is no permutation of the ",
                         list.reshape.size(), " dims of [", join(list.reshape, ","), "]"));
    return;
  }
  if (static_cast<int64_t>(list.list.size()) != count)
    scanner.refuse(cat("[", join(list.dims, ","), "] holds ", count, " devices, but ",
                       list.list.size(), " are listed"));
  std::vector<int64_t> sorted = list.list;
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty() && (sorted.front() < 0 || sorted.back() >= kMaxDevices))
    scanner.refuse(cat("devices are numbered 0 to ", kMaxDevices - 1, ", not ",
                       sorted.front() < 0 ? sorted.front() : sorted.back()));
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) scanner.refuse(cat("device ", *twice, " is listed twice"));
}

std::string print_iota(const DeviceList& list) {
  return cat("[", join(list.reshape, ","), "]",
             list.transpose.empty() ? "" : cat("T(", join(list.transpose, ","), ")"));
}

}  // namespace tessera::hlo
