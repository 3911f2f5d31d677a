// Activations of graph::Activation, written so that no intermediate overflows into NaN: exp() only ever
// overflows to infinity in a denominator, or underflows to 0.

// 0.5 erfc(-x / sqrt(2)). With z = |x| / sqrt(2) and t = 1 / (1 + z/2), erfc(z) = t exp(-z^2) Q(t); Q is a
// minimax fit of degree 8 in relative error over z >= 0, within 1.4e-7 in f32. To that exp() adds its own
// error, up to (3 + 2 z^2) ulp by Vulkan's rules.
float normal_cdf(float x) {
  float z = abs(x) * 0.70710678;
  float t = 1.0 / (1.0 + 0.5 * z);
  float q = -0.05938646;
  q = q * t + 0.28612393;
  q = q * t - 0.49040627;
  q = q * t + 0.28173316;
  q = q * t - 0.029148405;
  q = q * t + 0.20375246;
  q = q * t + 0.24283513;
  q = q * t + 0.28241208;
  q = q * t + 0.28208435;
  float tail = 0.5 * t * exp(-z * z) * q;
  return x > 0.0 ? 1.0 - tail : tail;
}

float activate(uint act, float x) {
  if (act == kActSigmoid) return 1.0 / (1.0 + exp(-x));
  if (act == kActSilu) return x / (1.0 + exp(-x));
  if (act == kActGeluTanh)  // 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), without the cancellation in 1 + tanh
    return x / (1.0 + exp(-1.5957691 * (x + 0.044715 * x * x * x)));
  if (act == kActGeluErf) return x * normal_cdf(x);
  if (act == kActRelu) return x < 0.0 ? 0.0 : x;  // not max(): NaN stays NaN
  if (act == kActRelu2) return x < 0.0 ? 0.0 : x * x;
  return x;
}
