// Complex numbers from and to their parts: c64 is a pair of f32.
//
// Cotangents of complex values are transposes, without conjugation: that of real is dy + 0i, of
// imag 0 - dy i, as products of complex numbers have it.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

extern const OpDef kMakeComplex;  // (f32 re, f32 im) -> c64
Value complex(Builder& b, Value re, Value im);
extern const OpDef kReal;  // c64 -> f32
Value real(Builder& b, Value z);
extern const OpDef kImag;
Value imag(Builder& b, Value z);

}  // namespace tessera::ops
