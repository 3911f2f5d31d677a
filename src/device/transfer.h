#pragma once

#include <mutex>

#include "device/commands.h"

namespace tessera {

// Blocking copies between host memory and buffers, through staging made at first use. Thread-safe.
class Transfer {
 public:
  Transfer(Gpu& gpu, Queue& queue) : gpu_(gpu), queue_(queue) {}
  Result<void> upload(Buffer& to, std::uint64_t offset, std::span<const std::byte> bytes);
  Result<void> download(const Buffer& from, std::uint64_t offset, std::span<std::byte> bytes);

 private:
  Result<void> run(CommandListImpl& list);
  Result<void> make_visible_to_host();
  Result<Buffer*> staging(std::unique_ptr<Buffer>& slot, Memory memory, std::uint64_t bytes);

  Gpu& gpu_;
  Queue& queue_;
  std::mutex mutex_;
  std::unique_ptr<Buffer> upload_, readback_;
};

}  // namespace tessera
