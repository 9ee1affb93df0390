// Optimizers over ranges of the flat arrays: float master weights, gradients and moments.
//   AdamW (Loshchilov and Hutter 2019)    : m, v moments with bias correction; w -= lr m^ / (sqrt(v^) + eps)
//   LAMB  (You et al. 2020, Algorithm 2)  : u = m^ / (sqrt(v^) + eps) + decay w; w -= lr |w| / |u| u, of each tensor
//   SGD with momentum                     : m = beta1 m + g; w -= lr m
// Decay is decoupled: AdamW and SGD first take lr * weight_decay * w off w. Each reads g * gradient_scale (the clipping
// factor, 1 / tokens). Numbers that are the same for all elements are computed in double.
//   w, g, m, v [size]    copy [size] or empty: w rounded to bf16 in the same pass
// Throws ShapeError. Enqueues on exec; no fence, no allocation.
#pragma once

#include <grist/core/view.hpp>

namespace grist::train {

struct OptimizerConfig {
  double beta1 = 0.9;  // of SGD: the momentum
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
};

/// What differs from step to step and from tensor to tensor.
struct Update {
  Index step = 1;  // the number of this update, from 1: corrects the bias of moments that begin with zeros
  double learning_rate = 0;
  double gradient_scale = 1;
  bool decay = true;  // norms and biases have none
};

struct OptimizerRange {
  View1<float> w, g, m, v;  // SGD: v may be empty
  View1<bf16> copy;
};

/// Reads g; writes w, m, v, copy.
void adamw(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range);
/// Reads g; writes w, m, copy.
void sgd(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range);

/// First half of LAMB: writes m, v, and u in g's place.
///   norms [2]: |w|^2 and |u|^2 of the range, to be summed over the ranks that share the tensor
///   scratch [norm_scratch(size)]
void lamb_direction(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range,
                    View1<double> scratch, View1<double> norms);
/// Second half: w -= lr |w| / |u| u, the ratio being 1 where a norm is 0. Reads u in g's place and norms [2]; writes w,
/// copy.
void lamb_apply(const Exec& exec, const Update& update, const OptimizerRange& range, View1<const double> norms);

/// result [1] = the sum of squares of x, in double and in an order that depends on the size alone: the same bits for
/// any number of threads. Finite exactly where all of x is, since the square of a float is far inside double: the check
/// for inf and NaN too.
///   scratch [norm_scratch(size)]
void squared_norm(const Exec& exec, View1<const float> x, View1<double> scratch, View1<double> result);
Index norm_scratch(Index size);

}  // namespace grist::train
