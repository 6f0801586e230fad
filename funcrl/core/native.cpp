// Functions that compiled programs call: each is the body of an operator `torch.ops.funcrl.*`.
//
// They take torch's handles of tensors, by the C interface that torch promises to keep, so that a program
// calls them as it calls torch's own: without Python, and without knowing where they are.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#if defined(__SSE__)
#include <immintrin.h>
#endif

extern "C" {
typedef struct Opaque *Handle;
int32_t aoti_torch_new_tensor_handle(Handle, Handle *);
int32_t aoti_torch_delete_tensor_object(Handle);
int32_t aoti_torch_get_data_ptr(Handle, void **);
int32_t aoti_torch_get_dtype(Handle, int32_t *);
size_t aoti_torch_dtype_element_size(int32_t);
int32_t aoti_torch_get_dim(Handle, int64_t *);
int32_t aoti_torch_get_numel(Handle, int64_t *);
int32_t aoti_torch_get_size(Handle, int64_t, int64_t *);
int32_t aoti_torch_get_stride(Handle, int64_t, int64_t *);
}

namespace {

template <typename T>
T *data(Handle tensor) {
  void *pointer = nullptr;
  aoti_torch_get_data_ptr(tensor, &pointer);
  return static_cast<T *>(pointer);
}

int64_t numel(Handle tensor) {
  int64_t n = 0;
  aoti_torch_get_numel(tensor, &n);
  return n;
}

int64_t dim(Handle tensor) {
  int64_t n = 0;
  aoti_torch_get_dim(tensor, &n);
  return n;
}

int64_t size(Handle tensor, int64_t axis) {
  int64_t n = 0;
  aoti_torch_get_size(tensor, axis, &n);
  return n;
}

int64_t stride(Handle tensor, int64_t axis) {
  int64_t n = 0;
  aoti_torch_get_stride(tensor, axis, &n);
  return n;
}

// ---------------------------------------------------------------------------------------------------
// Threefry-2x32 with 20 rounds (Salmon et al. 2011); `threefry.py` has the definition.

constexpr int CHUNK = 256;

#define ROUND(r)                         \
  x[i] += y[i];                          \
  y[i] = (y[i] << r) | (y[i] >> (32 - r)); \
  y[i] ^= x[i];
#define FOUR(a, b, c, d) ROUND(a) ROUND(b) ROUND(c) ROUND(d)
#define INJECT(k, l, n) \
  x[i] += k[i];         \
  y[i] += l[i] + n;

// Block (b, c) encrypts the counter (counter[b * counter_step + c], purpose) with key b; its two words
// go to first[n * step] and second[n * step], n = b * count + c.
void threefry(const uint32_t *key, int64_t num_keys, const uint32_t *counter, int64_t count,
              int64_t counter_step, uint32_t purpose, uint32_t *first, uint32_t *second, int64_t step) {
  uint32_t k0[CHUNK], k1[CHUNK], k2[CHUNK], x[CHUNK], y[CHUNK];
  int64_t b = 0, c = 0;
  for (int64_t begin = 0; begin < num_keys * count; begin += CHUNK) {
    int64_t rest = num_keys * count - begin, size = rest < CHUNK ? rest : CHUNK;
    for (int64_t i = 0; i < size; i++) {
      k0[i] = key[2 * b];
      k1[i] = key[2 * b + 1];
      x[i] = counter[b * counter_step + c];
      if (++c == count) {
        c = 0;
        b++;
      }
    }
    for (int64_t i = 0; i < size; i++) {
      k2[i] = k0[i] ^ k1[i] ^ 0x1BD11BDA;
      x[i] += k0[i];
      y[i] = purpose + k1[i];
      FOUR(13, 15, 26, 6) INJECT(k1, k2, 1)
      FOUR(17, 29, 16, 24) INJECT(k2, k0, 2)
      FOUR(13, 15, 26, 6) INJECT(k0, k1, 3)
      FOUR(17, 29, 16, 24) INJECT(k1, k2, 4)
      FOUR(13, 15, 26, 6) INJECT(k2, k0, 5)
    }
    if (step == 1) {
      memcpy(first + begin, x, size * sizeof(uint32_t));
      memcpy(second + begin, y, size * sizeof(uint32_t));
    } else {
      for (int64_t i = 0; i < size; i++) {
        first[2 * (begin + i)] = x[i];
        first[2 * (begin + i) + 1] = y[i];
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------------
// Products of batches of small matrices. A tile of the result stays in registers while one loop runs
// over what is summed, in order: an element's bits do not depend on where in which matrix it stands.

#if defined(__AVX512F__)
constexpr int WIDTH = 16, ROWS = 8;
#elif defined(__AVX__)
constexpr int WIDTH = 8, ROWS = 6;
#else
constexpr int WIDTH = 4, ROWS = 6;
#endif
constexpr int PANEL = 2 * WIDTH;
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

// a * b + c, rounded once where x86 can. Said here and not left to the compiler, which for some processors (AMD's
// with AVX2) rounds once in one tile and twice in another.
inline __attribute__((always_inline)) Vector multiply_add(float a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return (Vector)_mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
  return (Vector)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// c[r, n] = Σ_k a[r * am + k * ak] · b[k * b_step + n], for R rows and N vectors of columns.
template <int R, int N>
inline __attribute__((always_inline)) void tile(const float *a, int64_t am, int64_t ak, const float *b,
                                                int64_t b_step, float *c, int64_t c_step, int64_t depth) {
  Vector sum[R][N] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vector row[N];
    for (int n = 0; n < N; n++) row[n] = *reinterpret_cast<const Vector *>(b + k * b_step + n * WIDTH);
    for (int r = 0; r < R; r++)
      for (int n = 0; n < N; n++) sum[r][n] = multiply_add(a[r * am + k * ak], row[n], sum[r][n]);
  }
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) *reinterpret_cast<Vector *>(c + r * c_step + n * WIDTH) = sum[r][n];
}

template <int N>
void columns(const float *a, int64_t am, int64_t ak, const float *b, int64_t b_step, float *c,
             int64_t c_step, int64_t rows, int64_t depth) {
  int64_t m = 0;
  for (; m + ROWS <= rows; m += ROWS) tile<ROWS, N>(a + m * am, am, ak, b, b_step, c + m * c_step, c_step, depth);
  for (; m + 2 <= rows; m += 2) tile<2, N>(a + m * am, am, ak, b, b_step, c + m * c_step, c_step, depth);
  for (; m < rows; m++) tile<1, N>(a + m * am, am, ak, b, b_step, c + m * c_step, c_step, depth);
}

// b's columns, `width` of them, as rows of `panel` floats, with zeros where there are no more.
void pack(const float *b, int64_t bk, int64_t bn, int64_t depth, int64_t width, int64_t panel, float *packed) {
  if (width < panel) memset(packed, 0, depth * panel * sizeof(float));
  int64_t n = 0;
#if defined(__SSE__)
  for (; bk == 1 && n + 4 <= width; n += 4) {
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      __m128 column[4];
      for (int i = 0; i < 4; i++) column[i] = _mm_loadu_ps(b + k + (n + i) * bn);
      _MM_TRANSPOSE4_PS(column[0], column[1], column[2], column[3]);
      for (int i = 0; i < 4; i++) _mm_storeu_ps(packed + (k + i) * panel + n, column[i]);
    }
    for (; k < depth; k++)
      for (int i = 0; i < 4; i++) packed[k * panel + n + i] = b[k + (n + i) * bn];
  }
#endif
  constexpr int64_t BLOCK = 16;  // floats in a line of the cache
  for (int64_t begin = 0; begin < depth; begin += BLOCK) {
    int64_t end = begin + BLOCK < depth ? begin + BLOCK : depth;
    for (int64_t rest = n; rest < width; rest++)
      for (int64_t k = begin; k < end; k++) packed[k * panel + rest] = b[k * bk + rest * bn];
  }
}

struct Buffer {
  float *floats = nullptr;
  int64_t capacity = 0;
  float *of(int64_t count) {
    if (count > capacity) {
      delete[] floats;
      floats = new float[count];
      capacity = count;
    }
    return floats;
  }
  ~Buffer() { delete[] floats; }
};

void product(const float *a, int64_t am, int64_t ak, const float *b, int64_t bk, int64_t bn, float *c,
             int64_t rows, int64_t depth, int64_t width) {
  static thread_local Buffer packed_panel, padded_result;
  for (int64_t n = 0; n < width; n += PANEL) {
    int64_t here = width - n < PANEL ? width - n : PANEL;
    int64_t panel = here <= WIDTH ? WIDTH : PANEL;
    const float *own = b + n * bn;
    int64_t step = bk;
    if (bn != 1 || here < panel) {
      float *packed = packed_panel.of(depth * panel);
      pack(own, bk, bn, depth, here, panel, packed);
      own = packed;
      step = panel;
    }
    float *to = here < panel ? padded_result.of(rows * panel) : c + n;
    int64_t to_step = here < panel ? panel : width;
    if (panel == WIDTH)
      columns<1>(a, am, ak, own, step, to, to_step, rows, depth);
    else
      columns<2>(a, am, ak, own, step, to, to_step, rows, depth);
    if (here < panel)
      for (int64_t m = 0; m < rows; m++) memcpy(c + m * width + n, to + m * panel, here * sizeof(float));
  }
}

// ---------------------------------------------------------------------------------------------------
// The order of random numbers: they fall into as many buckets as there are numbers, about one into each.

constexpr int64_t FEW = 32;

void order(const int64_t *x, int64_t n, int64_t *places) {
  static thread_local std::vector<int64_t> ends;
  static thread_local std::vector<std::pair<int64_t, int64_t>> sorted;  // numbers and where they stood
  int64_t least = x[0], greatest = x[0];
  for (int64_t i = 1; i < n; i++) {
    least = std::min(least, x[i]);
    greatest = std::max(greatest, x[i]);
  }
  uint64_t range = static_cast<uint64_t>(greatest) - static_cast<uint64_t>(least);
  int shift = 0;
  while ((range >> shift) >= static_cast<uint64_t>(n)) shift++;
  auto bucket = [&](int64_t value) {
    return (static_cast<uint64_t>(value) - static_cast<uint64_t>(least)) >> shift;
  };
  ends.assign(n + 1, 0);
  sorted.resize(n);
  for (int64_t i = 0; i < n; i++) ends[bucket(x[i]) + 1]++;
  for (int64_t b = 0; b < n; b++) ends[b + 1] += ends[b];
  for (int64_t i = 0; i < n; i++) sorted[ends[bucket(x[i])]++] = {x[i], i};
  // ends[b] is now where bucket b ends and the next one begins.
  for (int64_t b = 0, begin = 0; b < n; begin = ends[b++]) {
    int64_t end = ends[b];
    if (end - begin > FEW) {
      std::sort(sorted.begin() + begin, sorted.begin() + end);
      continue;
    }
    for (int64_t i = begin + 1; i < end; i++)
      for (int64_t j = i; j > begin && sorted[j] < sorted[j - 1]; j--) std::swap(sorted[j], sorted[j - 1]);
  }
  for (int64_t i = 0; i < n; i++) places[i] = sorted[i].second;
}

// ---------------------------------------------------------------------------------------------------
// Quantile regression; `ops/quantiles.py` has the definition.

// One quantile theta of level tau against count goals: the mean loss, and its derivative by theta.
void regress(float theta, float tau, const float *goals, int64_t count, float threshold, float *loss, float *slope) {
  Vector losses = {}, slopes = {}, zero = {};
  for (int64_t begin = 0; begin < count; begin += WIDTH) {
    // A goal at the quantile itself costs nothing.
    Vector row = zero + theta;
    int64_t here = std::min<int64_t>(WIDTH, count - begin);
    if (here == WIDTH)
      row = *reinterpret_cast<const Vector *>(goals + begin);
    else
      memcpy(&row, goals + begin, here * sizeof(float));
    Vector u = row - theta, weight = u < 0 ? zero + (1 - tau) : zero + tau;
    if (threshold > 0) {
      Vector s = u > threshold ? zero + threshold : (u < -threshold ? zero - threshold : u);
      losses += weight * s * (u - 0.5f * s);
      slopes += weight * s;
    } else {
      Vector s = u > 0 ? zero + 1 : (u < 0 ? zero - 1 : u);
      losses += weight * s * u;
      slopes += weight * s;
    }
  }
  float total = 0, steep = 0;
  for (int i = 0; i < WIDTH; i++) {
    total += losses[i];
    steep += slopes[i];
  }
  *loss = total / count;
  *slope = -steep / count;
}

// ---------------------------------------------------------------------------------------------------
// A program bound to its tensors: a call makes no list of them in Python.

// Takes handles that it then owns, and writes those of its outputs.
typedef void (*Program)(Handle *, Handle *);

struct Bound {
  Program program;
  std::vector<Handle> tensors, handed;
  std::string error;
};

}  // namespace

extern "C" {

// The handles are given away to what is returned. A program that is run must have no outputs.
Bound *funcrl_bind(Program program, Handle *tensors, int64_t count) {
  return new Bound{program, {tensors, tensors + count}, std::vector<Handle>(count), ""};
}

// Returns what went wrong, or nothing. The caller holds Python's lock, which the program lets go.
const char *funcrl_run(Bound *bound) {
  for (size_t i = 0; i < bound->tensors.size(); i++)
    if (aoti_torch_new_tensor_handle(bound->tensors[i], &bound->handed[i])) return "no handle of a tensor";
  try {
    bound->program(bound->handed.data(), nullptr);
  } catch (const std::exception &error) {
    bound->error = error.what();
    return bound->error.c_str();
  } catch (...) {
    return "an unknown error";
  }
  return nullptr;
}

void funcrl_unbind(Bound *bound) {
  for (Handle tensor : bound->tensors) aoti_torch_delete_tensor_object(tensor);
  delete bound;
}

void funcrl_threefry(const uint32_t *key, int64_t num_keys, const uint32_t *counter, int64_t count,
                     int64_t counter_step, uint32_t purpose, uint32_t *first, uint32_t *second, int64_t step) {
  threefry(key, num_keys, counter, count, counter_step, purpose, first, second, step);
}

// What follows is called by compiled programs and returns 0. Outputs are contiguous, and so are inputs
// but for those of bmm.

// key [*B, 2], counter [C] or [*B, C]; out [2, *B, C].
int32_t aoti_torch_funcrl_threefry(Handle out, Handle key, Handle counter, int64_t purpose) {
  int64_t axes = dim(counter), count = size(counter, axes - 1);
  uint32_t *first = data<uint32_t>(out), *second = first + numel(out) / 2;
  threefry(data<uint32_t>(key), numel(key) / 2, data<uint32_t>(counter), count, axes > 1 ? count : 0,
           static_cast<uint32_t>(purpose), first, second, 1);
  return 0;
}

// key [*B, 2], counter [C] or [*B, C]; out [*B, C, 2].
int32_t aoti_torch_funcrl_threefry_keys(Handle out, Handle key, Handle counter, int64_t purpose) {
  int64_t axes = dim(counter), count = size(counter, axes - 1);
  uint32_t *words = data<uint32_t>(out);
  threefry(data<uint32_t>(key), numel(key) / 2, data<uint32_t>(counter), count, axes > 1 ? count : 0,
           static_cast<uint32_t>(purpose), words, words + 1, 2);
  return 0;
}

// a [B, M, K], b [B, K, N], float32 with any strides; out [B, M, N].
int32_t aoti_torch_funcrl_bmm(Handle out, Handle a, Handle b) {
  int64_t batch = size(a, 0), rows = size(a, 1), depth = size(a, 2), width = size(b, 2);
  for (int64_t i = 0; i < batch; i++)
    product(data<float>(a) + i * stride(a, 0), stride(a, 1), stride(a, 2), data<float>(b) + i * stride(b, 0),
            stride(b, 1), stride(b, 2), data<float>(out) + i * rows * width, rows, depth, width);
  return 0;
}

// x [*B, N] int64; out [*B, N] int64, places in the order of what stands there, equal ones as they come.
int32_t aoti_torch_funcrl_argsort(Handle out, Handle x) {
  int64_t n = size(x, dim(x) - 1);
  for (int64_t begin = 0; begin < numel(x); begin += n) order(data<int64_t>(x) + begin, n, data<int64_t>(out) + begin);
  return 0;
}

// quantiles [*B, M], goals [*B, K], threshold [*B], float32; out [2, *B, M], losses and their derivatives.
int32_t aoti_torch_funcrl_quantile_regression(Handle out, Handle quantiles, Handle goals, Handle threshold) {
  int64_t own = size(quantiles, dim(quantiles) - 1), count = size(goals, dim(goals) - 1);
  const float *theta = data<float>(quantiles), *y = data<float>(goals), *kappa = data<float>(threshold);
  float *loss = data<float>(out), *slope = loss + numel(quantiles);
  for (int64_t row = 0; row < numel(threshold); row++)
    for (int64_t m = 0; m < own; m++, theta++, loss++, slope++)
      regress(*theta, (m + 0.5f) / own, y + row * count, count, kappa[row], loss, slope);
  return 0;
}

// x and out are of one shape and type.
int32_t aoti_torch_funcrl_copy(Handle out, Handle x) {
  int32_t type = 0;
  aoti_torch_get_dtype(x, &type);
  memcpy(data<char>(out), data<char>(x), numel(x) * aoti_torch_dtype_element_size(type));
  return 0;
}
}
