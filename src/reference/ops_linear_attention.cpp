// base/linear_attention.h row by row, and how far a device may be off that computes rows in chunks:
// docs/verification.md derives it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

using List = std::vector<double>;

double feature(FeatureMap map, double x) {
  switch (map) {
    case FeatureMap::none: return x;
    case FeatureMap::elu_plus_one: return x > 0 ? x + 1 : std::exp(x);
    case FeatureMap::relu: return x > 0 ? x : 0;
    case FeatureMap::exp: return std::exp(x);
  }
  return x;
}

// A quantity of rows since the last multiple of kLinearChunk rows, and since the one before: whatever chunk a
// device is in began after the latter.
struct Window {
  List now, longer;
  void resize(std::size_t n) {
    now.assign(n, 0);
    longer.assign(n, 0);
  }
};

// The state of one sequence and KV head, with a column of ones behind v for the normaliser.
class State {
 public:
  State(const LinearAttentionAttrs& attrs, bool bounds)
      : a_(attrs), bounds_(bounds), width_(attrs.v_dim + (attrs.normalise ? 1 : 0)) {
    s_.resize(std::size_t{a_.k_dim} * width_);
    if (!bounds) return;
    error_.resize(s_.size());
    norm_.resize(width_);
    size_.resize(s_.size());
    decays_.resize(s_.size());
    passed_.resize(a_.k_dim);
    growth_.resize(a_.k_dim);
  }

  std::size_t width() const { return width_; }
  double& at(std::size_t d, std::size_t c) { return s_[d * width_ + c]; }
  double error(std::size_t d, std::size_t c) const {
    return !bounds_ ? 0 : is_delta(a_.rule) ? norm_[c] : error_[d * width_ + c];
  }
  void begin() {
    if (bounds_) new_window();
    if (bounds_) size_.longer = size_.now;
  }

  // k, v, g (k_dim) as they are multiplied, and the errors of k and v.
  struct Row {
    List k, k_error, v, v_error, g;
    double beta = 0;
  };
  void add(const Row& row) {
    List decay(a_.k_dim, 1);
    if (is_gated(a_.rule))
      for (std::size_t d = 0; d < decay.size(); ++d) decay[d] = std::exp(row.g[d]);
    for (std::size_t d = 0; d < decay.size(); ++d)
      for (std::size_t c = 0; c < width_; ++c) at(d, c) *= decay[d];
    if (bounds_) decayed(row, decay);
    List u = row.v, u_error = row.v_error;
    if (is_delta(a_.rule)) correct(row, decay, u, u_error);
    for (std::size_t d = 0; d < decay.size(); ++d)
      for (std::size_t c = 0; c < width_; ++c) at(d, c) += row.k[d] * u[c];
    if (bounds_) added(row, u, u_error);
  }

  // Column c of S^T q, and its error.
  struct Sum {
    double value = 0, error = 0;
  };
  Sum read(const List& q, const List& q_error, std::size_t c) const {
    Sum sum;
    double size = 0, squares = 0;
    for (std::size_t d = 0; d < q.size(); ++d) {
      const std::size_t i = d * width_ + c;
      sum.value += q[d] * s_[i];
      if (!bounds_) continue;
      const double most = std::fabs(q[d]) + q_error[d];
      size += most * size_.longer[i];
      squares += most * most;
      sum.error +=
          q_error[d] * std::fabs(s_[i]) + (is_delta(a_.rule) ? most * decays_.longer[i] : most * error_[i]);
      if (q[d] != 0 && size_.longer[i] != 0) sum.error += flushed(most, size_.longer[i]);
    }
    if (!bounds_) return sum;
    if (is_delta(a_.rule)) sum.error += std::sqrt(squares) * norm_[c];
    sum.error += terms() * size;
    return sum;
  }

 private:
  static double flushed(double a, double b) { return bounds::kFlush * (1 + a) * (1 + b); }
  // Roundings of a sum over the keys' elements and the rows of a chunk.
  double terms() const { return bounds::gamma(a_.k_dim + bounds::kLinearChunk + bounds::kLinearSteps); }

  void new_window() {
    for (Window* w : {&size_, &decays_, &passed_, &growth_})
      w->longer = std::exchange(w->now, List(w->now.size()));
    for (std::size_t i = 0; i < s_.size(); ++i)
      size_.now[i] = std::fabs(s_[i]) + error(i / width_, i % width_);
    rows_ = 0;
  }

  // What the decay of this row adds to the errors.
  void decayed(const Row& row, const List& decay) {
    if (static_cast<double>(rows_) == bounds::kLinearChunk) new_window();
    ++rows_;
    if (is_delta(a_.rule)) propagate(row, decay);
    for (std::size_t d = 0; d < decay.size(); ++d) {
      double relative = 0;
      if (is_gated(a_.rule)) {
        const double g = std::max(row.g[d], bounds::kLeastDecay);
        for (List* sum : {&passed_.now, &passed_.longer}) (*sum)[d] += std::fabs(g);
        for (List* sum : {&growth_.now, &growth_.longer}) (*sum)[d] += std::max(g, 0.0);
        relative = growth_.longer[d] > bounds::kMostGrowth ? std::numeric_limits<double>::infinity()
                                                           : bounds::decay(g, passed_.longer[d]);
      }
      for (std::size_t c = 0; c < width_; ++c) {
        const std::size_t i = d * width_ + c;
        for (Window* w : {&size_, &decays_}) {
          w->now[i] *= decay[d];
          w->longer[i] *= decay[d];
        }
        // Zero stays zero, however it decays.
        const double moved =
            size_.longer[i] == 0 ? 0 : relative * size_.longer[i] + flushed(1, size_.longer[i]);
        const double summed = bounds::kUlp * size_.longer[i];
        decays_.now[i] += moved;
        decays_.longer[i] += moved;
        if (is_delta(a_.rule))
          local_.push_back(moved + summed);
        else
          error_[i] = error_[i] * decay[d] + moved + summed;
      }
    }
  }

  // Errors of a column of the state pass (1 - beta k k^T) diag(decay), whose norm is at most this.
  void propagate(const Row& row, const List& decay) {
    const double squares = std::inner_product(row.k.begin(), row.k.end(), row.k.begin(), 0.0);
    carried_ = *std::ranges::max_element(decay);
    growth_of_row_ = carried_ * std::max(1.0, std::fabs(1 - row.beta * squares));
    length_ = std::sqrt(squares);
    local_.clear();
  }

  // u = beta (v - S'^T k) of the delta rules.
  void correct(const Row& row, const List& decay, List& u, List& u_error) {
    for (std::size_t c = 0; c < width_; ++c) {
      double found = 0, size = std::fabs(row.v[c]), error = row.v_error[c];
      for (std::size_t d = 0; d < decay.size(); ++d) {
        found += row.k[d] * at(d, c);
        if (!bounds_) continue;
        const std::size_t i = d * width_ + c;
        const double most = std::fabs(row.k[d]) + row.k_error[d];
        size += most * size_.longer[i];
        error += row.k_error[d] * size_.longer[i] + most * decays_.longer[i] + flushed(most, size_.longer[i]);
      }
      u[c] = row.beta * (row.v[c] - found);
      if (bounds_) u_error[c] = std::fabs(row.beta) * (error + terms() * size) + bounds::kFlush;
    }
  }

  // What k u^T adds to the errors.
  void added(const Row& row, const List& u, const List& u_error) {
    const double own = bounds::gamma(bounds::kLinearChunk + bounds::kLinearSteps);
    for (std::size_t c = 0; c < width_; ++c) {
      const bool delta = is_delta(a_.rule);
      // Of u as a device has it: what the state was off by is in it too.
      const double off = u_error[c] + (delta ? std::fabs(row.beta) * length_ * carried_ * norm_[c] : 0);
      double squares = 0;
      for (std::size_t d = 0; d < row.k.size(); ++d) {
        const std::size_t i = d * width_ + c;
        const double k = std::fabs(row.k[d]), size = (k + row.k_error[d]) * (std::fabs(u[c]) + off);
        size_.now[i] += size;
        size_.longer[i] += size;
        const double error = own * size + row.k_error[d] * (std::fabs(u[c]) + off) + k * u_error[c] +
                             (size == 0 ? 0 : flushed(k, std::fabs(u[c])));
        if (!delta) {
          error_[i] += error;
          continue;
        }
        const double whole = error + local_[i];
        squares += whole * whole;
      }
      if (delta) norm_[c] = growth_of_row_ * norm_[c] + std::sqrt(squares);
    }
  }

  const LinearAttentionAttrs& a_;
  const bool bounds_;
  const std::size_t width_;
  List s_;
  List error_;  // of each element; delta rules: norm_, of each column as a vector
  List norm_;
  // Sums of magnitudes that make an element, what rounded decays move it by; |g| passed, and where g > 0.
  Window size_, decays_, passed_, growth_;
  std::uint64_t rows_ = 0;
  // Of the row that is added.
  List local_;
  double growth_of_row_ = 1, carried_ = 1, length_ = 0;
};

class LinearAttention {
 public:
  explicit LinearAttention(const OpCall& call) : call_(call), a_(call.op.attrs.linear) {
    for (const auto which : {LinearIn::q, LinearIn::k, LinearIn::v, LinearIn::past, LinearIn::decay,
                             LinearIn::beta, LinearIn::past_normaliser}) {
      const ValueId id = call.in(static_cast<std::size_t>(which));
      if (id != kNoValue)
        in_[static_cast<std::size_t>(which)] = call.tensors.floats(id, 0, call.value(id).elems());
    }
    y_.value = call.out(0);
    present_.value = call.out(1);
    normaliser_.value = call.out(2);
  }

  Outputs run() {
    for (b_ = 0; b_ < a_.batch; ++b_)
      for (h_ = 0; h_ < a_.kv_heads; ++h_) head();
    Outputs out;
    for (ReferenceOutput* more : {&y_, &present_, &normaliser_})
      if (more->value != kNoValue) out.push_back(std::move(*more));
    return out;
  }

 private:
  const std::vector<float>& in(LinearIn which) const { return in_[static_cast<std::size_t>(which)]; }
  std::size_t state_row() const { return (b_ * a_.kv_heads + h_) * a_.k_dim; }

  void head() {
    State state(a_, call_.bounds);
    for (std::size_t d = 0; d < a_.k_dim; ++d) {
      for (std::size_t c = 0; c < a_.v_dim && !in(LinearIn::past).empty(); ++c)
        state.at(d, c) = in(LinearIn::past)[(state_row() + d) * a_.v_dim + c];
      if (!in(LinearIn::past_normaliser).empty())
        state.at(d, a_.v_dim) = in(LinearIn::past_normaliser)[state_row() + d];
    }
    state.begin();
    for (std::uint64_t t = 0; t < a_.len; ++t) {
      state.add(row(t, state.width()));
      if (a_.causal && y_.value != kNoValue) outputs(state, t);
    }
    for (std::uint64_t t = 0; t < a_.len && !a_.causal && y_.value != kNoValue; ++t) outputs(state, t);
    store(state);
  }

  // Elements of a head's row of q or k, and their errors.
  void mapped(LinearIn which, std::uint64_t first, List& x, List& error) const {
    const DType type = call_.value(call_.in(static_cast<std::size_t>(which))).dtype;
    for (std::size_t d = 0; d < a_.k_dim; ++d) {
      const double value = in(which)[first + d];
      x.push_back(feature(a_.map, value));
      error.push_back(read_error(type, value) + bounds::feature(a_.map, value));
    }
  }
  static double read_error(DType type, double x) {
    return std::fabs(x) < bounds::flush_below(type) ? std::fabs(x) : 0;
  }

  State::Row row(std::uint64_t t, std::size_t width) const {
    State::Row out;
    const std::uint64_t row = b_ * a_.len + t, head_row = row * a_.kv_heads + h_;
    mapped(LinearIn::k, (a_.shared_keys ? t * a_.kv_heads + h_ : head_row) * a_.k_dim, out.k, out.k_error);
    const DType type = call_.value(call_.in(static_cast<std::size_t>(LinearIn::v))).dtype;
    for (std::size_t c = 0; c < width; ++c) {
      const double v = c < a_.v_dim ? in(LinearIn::v)[head_row * a_.v_dim + c] : 1;
      out.v.push_back(v);
      out.v_error.push_back(read_error(type, v));
    }
    for (std::size_t d = 0; d < a_.k_dim && is_gated(a_.rule); ++d)
      out.g.push_back(in(LinearIn::decay)[a_.decay_by_dim ? head_row * a_.k_dim + d : head_row]);
    if (is_delta(a_.rule)) out.beta = in(LinearIn::beta)[a_.beta_by_head ? head_row : row];
    return out;
  }

  void outputs(const State& state, std::uint64_t t) {
    const std::uint64_t shared_by = a_.heads / a_.kv_heads;
    for (std::uint64_t h = h_ * shared_by; h < (h_ + 1) * shared_by; ++h) {
      const std::uint64_t row = (b_ * a_.len + t) * a_.heads + h;
      List q, q_error;
      mapped(LinearIn::q, row * a_.k_dim, q, q_error);
      State::Sum denominator{1, 0};
      if (a_.normalise) {
        denominator = state.read(q, q_error, a_.v_dim);
        denominator.value += a_.epsilon;
        denominator.error += bounds::kUlp * std::fabs(denominator.value);
      }
      for (std::size_t c = 0; c < a_.v_dim; ++c) {
        y_.elements.push_back(row * a_.v_dim + c);
        put_output(state.read(q, q_error, c), denominator);
      }
    }
  }

  void put_output(const State::Sum& sum, const State::Sum& denominator) {
    const double scale = std::fabs(double{a_.scale});
    double y = double{a_.scale} * sum.value,
           error = scale * sum.error + bounds::kUlp * std::fabs(y) + bounds::kFlush;
    if (a_.normalise) {
      const double least = std::fabs(denominator.value) - denominator.error;
      y = denominator.value == 0 ? 0 : y / denominator.value;
      error = least > 0 ? (error + std::fabs(y) * denominator.error) / least +
                              (bounds::kDivUlps + 1) * bounds::kUlp * std::fabs(y) + bounds::kFlush
                        : std::numeric_limits<double>::infinity();
      if (denominator.value == 0 && denominator.error == 0) error = 0;
    }
    put(call_, y_, y, error);
  }

  void store(State& state) {
    for (std::size_t d = 0; d < a_.k_dim; ++d) {
      for (std::size_t c = 0; c < a_.v_dim && present_.value != kNoValue; ++c)
        put(call_, present_, state.at(d, c), state.error(d, c));
      if (normaliser_.value != kNoValue)
        put(call_, normaliser_, state.at(d, a_.v_dim), state.error(d, a_.v_dim));
    }
  }

  const OpCall& call_;
  const LinearAttentionAttrs& a_;
  std::vector<float> in_[static_cast<std::size_t>(LinearIn::count)];
  ReferenceOutput y_, present_, normaliser_;
  std::uint64_t b_ = 0, h_ = 0;
};

}  // namespace

Result<Outputs> run_linear_attention(const OpCall& call) { return LinearAttention(call).run(); }

}  // namespace tessera
