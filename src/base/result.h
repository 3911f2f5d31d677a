// Value or error, without exceptions. Every fallible function of the library returns one of these.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace tessera {

// The same numbers as tessera_status in tessera.h (asserted in src/api).
enum class Code : int {
  ok = 0,
  invalid_argument = 1,  // the caller's fault: a shape, a flag, a prompt that is too long
  io = 2,                // a file or reader that could not be read or written
  bad_model = 3,         // a model file that lies, is damaged or is truncated
  unsupported = 4,       // well-formed, but this build or device cannot do it
  out_of_memory = 5,
  no_device = 6,    // no Vulkan loader, no device, or every device refused
  device_lost = 7,  // the context is dead; destroying it stays legal
  cancelled = 8,    // a progress callback asked to stop
  numeric = 9,      // NaN where a number was needed (a logits row, say)
  mismatch = 10,    // verification found an error over its bound
  internal = 11,    // a bug in Tessera
};

// What went wrong and where, as one line for a person: names the file, tensor, flag or limit.
struct Error {
  Code code = Code::internal;
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {
    assert(std::get<1>(state_).code != Code::ok);
  }
  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return std::get<1>(state_); }
  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) { assert(error_.code != Code::ok); }
  bool ok() const { return error_.code == Code::ok; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return error_; }

 private:
  Error error_{Code::ok, {}};
};

#define TSR_CONCAT_(a, b) a##b
#define TSR_CONCAT(a, b) TSR_CONCAT_(a, b)
// TSR_TRY(auto buffer, device.create_buffer(desc));  returns the error, or declares and moves the value.
#define TSR_TRY(decl, expr) TSR_TRY_(decl, expr, TSR_CONCAT(tsr_result_, __LINE__))
#define TSR_TRY_(decl, expr, r)      \
  auto r = (expr);                   \
  if (!(r).ok()) return (r).error(); \
  decl = *std::move(r)
// TSR_CHECK(fence.wait());  returns the error of a Result<void>, or goes on.
#define TSR_CHECK(expr)                                                            \
  do {                                                                             \
    if (const auto& tsr_check = (expr); !tsr_check.ok()) return tsr_check.error(); \
  } while (0)

}  // namespace tessera
