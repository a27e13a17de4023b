#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {
namespace {

template <typename T>
const T& required(const ImportContext& context, std::string_view name) {
  const T* value = context.instruction().get<T>(name);
  if (!value) context.fail(cat(context.instruction().opcode, " needs the attribute ", name));
  return *value;
}

}  // namespace

const Ints& ImportContext::ints(std::string_view name) const { return required<Ints>(*this, name); }

Ints ImportContext::ints_or_empty(std::string_view name) const {
  const Ints* value = instruction().get<Ints>(name);
  return value ? *value : Ints{};
}

int64_t ImportContext::integer(std::string_view name) const {
  return required<int64_t>(*this, name);
}

int64_t ImportContext::integer_or(std::string_view name, int64_t fallback) const {
  const int64_t* value = instruction().get<int64_t>(name);
  return value ? *value : fallback;
}

bool ImportContext::flag(std::string_view name) const {
  const bool* value = instruction().get<bool>(name);
  return value && *value;
}

const std::string& ImportContext::name_of(std::string_view name) const {
  if (const HloAttribute* attribute = instruction().find(name))
    if (const auto* text = std::get_if<std::string>(&attribute->value)) return *text;
  return required<Name>(*this, name).text;
}

TensorType ImportContext::result_type(int leaf) const {
  const std::vector<const HloShape*> all = instruction().shape.leaves();
  if (leaf < 0 || leaf >= static_cast<int>(all.size()))
    fail(cat(instruction().opcode, " has the result ", print(instruction().shape, false),
             ", but must have at least ", leaf + 1, " of them"));
  const HloShape& shape = *all[static_cast<size_t>(leaf)];
  return {shape.dtype.value_or(DType::f32), shape.dims};
}

void ImportContext::fail(const std::string& message) const {
  throw_user_error(where(instruction()), ": ", message);
}

}  // namespace tessera::hlo
