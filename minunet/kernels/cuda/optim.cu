// What a training step does to all parameters at once, each kernel in one start; in place, float32.
//
//     unscale:  g *= factor;   *broken = 1 if any number of any g is not finite
//     clip:     norm = sqrt(sum over all g of g^2);   g *= most / norm where norm > most
//     sgd:      g += decay * p;   v = momentum * v + g;   p -= lr * (g + momentum * v if nesterov else v)
//     adam:     p -= lr * decay * p if decoupled, else g += decay * p
//               m += gain1 * (g - m);   s += gain2 * (g * g - s)                            gain = 1 - beta
//               p -= lr * (m / correction1) / (sqrt(s / correction2) + eps)         correction = 1 - beta^steps
//     rmsprop:  g += decay * p;   s += gain * (g * g - s);   v = momentum * v + g / (sqrt(s) + eps);   p -= lr * v
//     average:  a = keep * a + gain * p
//
// factor, lr and corrections are arguments, or lie in memory, `now`, where a recorded step (cuda_graph.py) finds its own.
// There the optimisers' last number is a flag, set where gradients were not finite: the kernels read it and skip the update, so
// that the host never synchronises. Nor does it for the norm: every block of `clip` adds up the sums of `squares` by itself.
//
// 256 threads; a block takes chunk after chunk of whatever array comes, see tables.cuh, and reads and writes are coalesced.
//
// Shapes: any, contiguous.
//
// Measure: python bench/cuda_kernels.py optim
#include "sums.cuh"
#include "tables.cuh"

extern "C" __global__ void __launch_bounds__(256, 1)
unscale(float* broken, Table t, const float* __restrict__ now, float factor) {
  if (now) factor = now[0];
  for_each_number(t, [&](int row, int i) {
    float* g = t.at[0][row];
    g[i] *= factor;
    if (!(g[i] - g[i] == 0.f)) *broken = 1.f;  // infinity or NaN; all threads that write write the same
  });
}

// partial [block]: the sum of a block's squares
extern "C" __global__ void __launch_bounds__(256, 1)
squares(double* partial, Table t) {
  SHARED(double, s);
  double sum = 0;
  for_each_number(t, [&](int row, int i) { sum += (double)t.at[0][row][i] * t.at[0][row][i]; });
  sum = block_sum(s, sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256, 1)
clip(const double* __restrict__ partial, int blocks, float* norm, Table t, float most) {
  SHARED(double, s);
  double sum = 0;
  for (int i = threadIdx.x; i < blocks; i += 256) sum += partial[i];
  const double found = sqrt(block_sum(s, sum));
  if (blockIdx.x == 0 && threadIdx.x == 0) *norm = found;
  if (!(found > most)) return;
  const float factor = most / found;
  for_each_number(t, [&](int row, int i) { t.at[0][row][i] *= factor; });
}

extern "C" __global__ void __launch_bounds__(256, 1)
sgd(Table t, const float* __restrict__ now, float lr, float momentum, float decay, int nesterov) {
  if (now) {
    if (now[1] != 0.f) return;
    lr = now[0];
  }
  for_each_number(t, [&](int row, int i) {
    float *p = t.at[0][row], *v = t.at[2][row];
    const float w = p[i], g = t.at[1][row][i] + decay * w, speed = momentum * v[i] + g;
    v[i] = speed;
    p[i] = w - lr * (nesterov ? g + momentum * speed : speed);
  });
}

extern "C" __global__ void __launch_bounds__(256, 1)
adam(Table t, const float* __restrict__ now, float lr, float gain1, float gain2, float eps, float decay, int decoupled,
     float correction1, float correction2) {
  if (now) {
    if (now[3] != 0.f) return;
    lr = now[0], correction1 = now[1], correction2 = now[2];
  }
  for_each_number(t, [&](int row, int i) {
    float *p = t.at[0][row], *means = t.at[2][row], *mean_squares = t.at[3][row];
    float w = p[i], g = t.at[1][row][i], m = means[i], s = mean_squares[i];
    if (decoupled)
      w -= lr * decay * w;
    else
      g += decay * w;
    m += gain1 * (g - m);
    s += gain2 * (g * g - s);
    means[i] = m, mean_squares[i] = s;
    p[i] = w - lr * (m / correction1) / (sqrtf(s / correction2) + eps);
  });
}

extern "C" __global__ void __launch_bounds__(256, 1)
rmsprop(Table t, const float* __restrict__ now, float lr, float momentum, float gain, float eps, float decay) {
  if (now) {
    if (now[1] != 0.f) return;
    lr = now[0];
  }
  for_each_number(t, [&](int row, int i) {
    float *p = t.at[0][row], *mean_squares = t.at[2][row], *v = t.at[3][row];
    const float w = p[i], g = t.at[1][row][i] + decay * w, s = mean_squares[i] + gain * (g * g - mean_squares[i]);
    const float speed = momentum * v[i] + g / (sqrtf(s) + eps);
    mean_squares[i] = s, v[i] = speed;
    p[i] = w - lr * speed;
  });
}

extern "C" __global__ void __launch_bounds__(256, 1)
average(Table t, float keep, float gain) {
  for_each_number(t, [&](int row, int i) {
    float* a = t.at[0][row];
    a[i] = keep * a[i] + gain * t.at[1][row][i];
  });
}
