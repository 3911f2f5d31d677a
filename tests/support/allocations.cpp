#include "support/allocations.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace tessera::test {
namespace {

std::atomic<std::size_t> live{0}, peak{0}, base{0};
thread_local std::size_t made = 0;

}  // namespace

void reset_peak() {
  base = live.load();
  peak = live.load();
}
std::size_t peak_bytes() { return peak - base; }
std::size_t allocations() { return made; }

void* counted_malloc(std::size_t size) {
  void* memory = std::malloc(size);
  ++made;
  const std::size_t now = live += malloc_usable_size(memory);  // 0 of a null one
  if (now > peak) peak = now;
  return memory;
}
void* counted_new(std::size_t size) {
  void* memory = counted_malloc(size);
  if (!memory) throw std::bad_alloc();
  return memory;
}
void counted_delete(void* memory) {
  if (memory) live -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace tessera::test

void* operator new(std::size_t size) { return tessera::test::counted_new(size); }
void* operator new[](std::size_t size) { return tessera::test::counted_new(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return tessera::test::counted_malloc(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return tessera::test::counted_malloc(size);
}
void operator delete(void* memory) noexcept { tessera::test::counted_delete(memory); }
void operator delete[](void* memory) noexcept { tessera::test::counted_delete(memory); }
void operator delete(void* memory, std::size_t) noexcept { tessera::test::counted_delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept { tessera::test::counted_delete(memory); }
