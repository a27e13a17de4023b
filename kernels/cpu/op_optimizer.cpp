#include "core/ops/optimizer.h"

#include "kernels/cpu/adamw.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

void run_adamw(const KernelArgs& args) {
  const Attributes& attributes = args.instruction.attributes;
  const auto run = [&]<typename T>() {
    const auto scalar = [&](size_t operand) { return double{*args.operands[operand].as<T>()}; };
    AdamWStep step;
    step.learning_rate = scalar(4);
    step.grad_scale = scalar(5);
    step.bias_correction1 = scalar(6);
    step.bias_correction2 = scalar(7);
    step.beta1 = attributes.number(Attr::beta1);
    step.beta2 = attributes.number(Attr::beta2);
    step.epsilon = attributes.number(Attr::epsilon);
    step.weight_decay = attributes.number(Attr::weight_decay);
    adamw(args.operands[0].type.elements(), step, args.operands[0].as<T>(),
          args.operands[1].as<T>(), args.operands[2].as<T>(), args.operands[3].as<T>(),
          args.results[0].as<T>(), args.results[1].as<T>(), args.results[2].as<T>());
  };
  if (args.operands[0].type.dtype == DType::f64)
    run.operator()<double>();
  else
    run.operator()<float>();
}

}  // namespace

void register_optimizer(KernelTable& table) {
  // In place by the op's own alias.
  table.add(ops::kAdamW, make_kernel("cpu.adamw", nullptr, run_adamw));
}

}  // namespace tessera::cpu
