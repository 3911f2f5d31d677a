// The machine: instance, device, memory, pipelines, commands, queue. The only room that sees Vulkan; this
// header does not include it. Objects are moved, never copied, and must not outlive their Device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "device/host.h"
#include "device/limits.h"
#include "device/matrices.h"
#include "device/rates.h"

namespace tessera {

enum class DeviceType : std::uint8_t { other, integrated, discrete, virtual_gpu, cpu };

struct DeviceReport {
  std::uint32_t index = 0;        // in the loader's order; what --device takes
  std::string name;               // as the driver says ("llvmpipe (LLVM 15.0.6, 256 bits)")
  std::string driver;             // name and version text
  std::uint32_t api_version = 0;  // Vulkan encoding
  std::uint32_t vendor_id = 0, device_id = 0, driver_version = 0;
  DeviceType type = DeviceType::other;
  std::array<std::uint8_t, 16> pipeline_cache_uuid{};
  Limits limits;
  Caps caps;
  Matrices matrices;                      // empty without caps.coopmat
  MeasuredRates rates;                    // those it was opened with
  std::uint64_t device_memory_bytes = 0;  // sum of device-local heaps
  std::string refused;                    // why it cannot be used; empty when it can
};

class Device;
class Buffer;
class Pipeline;
class BindingSet;
class CommandList;

// The loader and an instance. Never throws, never prints; no_device when there is no loader.
class Instance {
 public:
  struct Desc {
    void* get_instance_proc_addr = nullptr;  // PFN_vkGetInstanceProcAddr; null: a loader is opened
    std::string loader;                      // its file name; empty: the platform's (libvulkan.so.1)
    bool debug_messages =
        false;  // messages of validation layers go to the log as errors (VK_EXT_debug_utils)
    Log log;    // called from any thread that uses the instance or its devices
    const void* allocation_callbacks = nullptr;  // VkAllocationCallbacks of every object; copied
    void* instance = nullptr;       // VkInstance of a host's, which stays its own; null: one is made
    std::uint32_t api_version = 0;  // of that instance's VkApplicationInfo
  };
  static Result<std::shared_ptr<Instance>> create(const Desc& desc);
  // Every device, usable or refused, with its real limits and capabilities.
  virtual Result<std::vector<DeviceReport>> enumerate() const = 0;
  // A host's device of a host's instance, with what it enabled as all it can.
  virtual DeviceReport report(const HostDevice& host) const = 0;
  virtual ~Instance() = default;
};

// Picks from reports: discrete, then integrated, virtual, other, and CPU last; the lower index among equals.
// `wanted`: empty for that order, else an index or a case-insensitive part of the name, which must match a
// usable device (no_device says what there is and why it was refused; an ambiguous part takes the best
// match).
Result<std::uint32_t> pick_device(std::span<const DeviceReport> reports, const std::string& wanted);

enum class Memory : std::uint8_t {
  device,    // weights, caches, arena: device-local; mapped too only where that costs nothing
  shared,    // small control buffers: mapped, coherent, read and written by the GPU
  upload,    // mapped staging, written once by the host
  readback,  // mapped, cached where there is such a type
};

// Which queue families a buffer belongs to: that of the one queue or command buffer that uses it (a host's
// may be of any family), or those of both lanes.
enum class BufferLanes : std::uint8_t { one, both };

class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual std::uint64_t size() const = 0;
  virtual std::span<std::byte> mapped() = 0;  // empty when not host-visible; always coherent
};

// What a compute pipeline is made of; entry point "main". `module` must outlive the device (embedded modules
// do). Two are equal when all but the names are.
struct PipelineDesc {
  std::string name;                          // for messages
  std::span<const std::uint8_t> module;      // SPIR-V, plain or through gzip
  std::shared_ptr<const void> module_owner;  // of one that is not there for ever
  std::uint32_t binding_count = 0;           // storage buffers at bindings 0..count-1 of set 0
  std::uint32_t push_bytes = 0;
  std::vector<std::uint32_t> spec;           // value of specialization constant id i; all 4-byte
  std::uint32_t required_subgroup_size = 0;  // 0: the driver's choice
  bool operator==(const PipelineDesc&) const;
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
};

// What the driver made of a pipeline, as it says itself (VK_KHR_pipeline_executable_properties).
struct PipelineStatistic {
  std::string name;
  std::variant<bool, std::int64_t, std::uint64_t, double> value;
};
struct PipelineText {  // "Assembly", "NIR": an internal representation
  std::string name;
  std::string text;
};
struct PipelineExecutable {  // a compute pipeline has one, or one a subgroup size
  std::string name;
  std::uint32_t subgroup_size = 0;
  std::vector<PipelineStatistic> statistics;
  std::vector<PipelineText> texts;
};

// The same in one vocabulary; nothing where the driver reports nothing of the kind. Of several executables,
// the largest figure.
struct PipelineFigures {
  std::optional<double> registers;      // vector registers of a lane, in the driver's unit
  std::optional<double> spills;         // values or instructions that go to memory for want of registers
  std::optional<double> scratch_bytes;  // private memory: of a lane (AMD: of a subgroup)
  std::optional<double> shared_bytes;
  std::optional<double> instructions;
  std::optional<double> cycles;  // static estimate: compares versions of one kernel, not kernels
};
PipelineFigures summarise(std::span<const PipelineExecutable> executables);

struct BindingRange {
  const Buffer* buffer = nullptr;
  std::uint64_t offset = 0;  // multiple of min_storage_alignment
  std::uint64_t size = 0;    // 1..max_storage_range
};

// A descriptor set made once; recording only refers to it. Good for any pipeline with as many bindings.
class BindingSet {
 public:
  virtual ~BindingSet() = default;
};

// What work is recorded into. One thread at a time; different recorders are independent. A misuse (a range
// outside its buffer, a grid over the limits) is not recorded, and the first one is named at the end.
class Recorder {
 public:
  virtual ~Recorder() = default;
  // Workgroups [base, base+count) of each dimension (vkCmdDispatchBase; gl_WorkGroupID includes the base).
  // Slices of one grid write apart, but newer synchronisation validation cannot know it: a barrier goes
  // between them.
  virtual void dispatch(const Pipeline& pipeline, const BindingSet& set, std::span<const std::uint32_t> push,
                        std::array<std::uint32_t, 3> base, std::array<std::uint32_t, 3> count) = 0;
  // Compute and transfer writes so far become visible to what follows; the one place that records a barrier.
  virtual void barrier() = 0;
  virtual void copy(const Buffer& from, std::uint64_t from_offset, const Buffer& to, std::uint64_t to_offset,
                    std::uint64_t bytes) = 0;
  // Offset and bytes are multiples of 4.
  virtual void fill(const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes, std::uint32_t word) = 0;
};

// Records once, is submitted many times, also while an earlier submission of it is pending. Begin/end are
// implicit in create and finish. Lists run in the order of submission, but nothing orders their memory
// accesses: one that touches what an earlier one wrote starts with barrier(). Host writes to mapped memory
// before submit() are visible to it without a barrier. Its destructor waits for its latest submission.
class CommandList : public Recorder {
 public:
  // barrier() for the CPU, which reads mapped memory after wait().
  virtual void barrier_to_host() = 0;
  // Each index below the timestamp_count given at creation once; ignored on a device without timestamps.
  virtual void timestamp(std::uint32_t index) = 0;
  virtual Result<void> finish() = 0;
  // After the latest submission ended: nanoseconds since the first timestamp, as many as the count given at
  // creation. unsupported where limits.timestamp_ns is 0.
  virtual Result<void> timestamps(std::span<double> ns) = 0;
};

// What a host does on the device beside us: VkPipelineStageFlags and VkAccessFlags.
struct HostAccess {
  std::uint32_t stages = 0, access = 0;
};

// Into a command buffer of the host's, between its own commands. Only vkCmd* calls: nothing is allocated,
// on the device or the heap.
class HostRecorder : public Recorder {
 public:
  // What the host's access wrote becomes visible to what follows.
  virtual void barrier_from(HostAccess host) = 0;
  // What was written so far becomes visible to the host's access.
  virtual void barrier_to(HostAccess host) = 0;
};

// What work is submitted to. Where there is no transfer queue, both are the compute queue.
enum class Lane : std::uint8_t { compute, transfer };

// Device memory of a Device's buffers, staging included.
struct MemoryUse {
  std::uint64_t bytes = 0;
  std::uint64_t peak_bytes = 0;
};

class Device {
 public:
  struct Desc {
    std::uint32_t index = 0;  // of Instance::enumerate
    std::vector<CapOverride> overrides;
    MeasuredRates rates;                    // for the report: what kernel choice reads
    std::vector<std::byte> pipeline_cache;  // blob of an earlier run; ignored (with a warning) unless its
                                            // checksum, device and driver agree
    Log log;
    std::uint64_t memory_budget = 0;  // bytes of all buffers at once; 0: what the device has
    bool transfer_queue = false;      // open one too, where a family only copies
    bool low_priority = false;        // among all processes of the device, where the driver has priorities
    std::optional<HostDevice> host;   // instead of index, transfer_queue and low_priority
  };
  static Result<std::unique_ptr<Device>> create(std::shared_ptr<Instance> instance, const Desc& desc);
  virtual ~Device() = default;  // waits for what was submitted, a minute at most

  virtual const DeviceReport& report() const = 0;  // limits and caps with the overrides applied
  // unsupported over max_buffer_size; out_of_memory says what the budget or the heap has. Contents are
  // undefined.
  virtual Result<std::unique_ptr<Buffer>> create_buffer(std::uint64_t bytes, Memory memory,
                                                        const std::string& name,
                                                        BufferLanes lanes = BufferLanes::one) = 0;
  // A VkBuffer of the host's as a Buffer: never destroyed, not mapped, good as a storage buffer and in copies
  // as far as its usage flags say so. It must outlive the Buffer.
  virtual Result<std::unique_ptr<Buffer>> adopt_buffer(std::uint64_t vk_buffer, std::uint64_t bytes) = 0;
  // Thread-safe. The same desc gives the same object, made once, while somebody holds it; the latest
  // kPipelinesKept are held by the device.
  static constexpr std::size_t kPipelinesKept = 256;
  virtual Result<std::shared_ptr<Pipeline>> create_pipeline(const PipelineDesc& desc) = 0;
  virtual std::uint32_t pipelines_made() const = 0;
  // Compiles the pipeline afresh for its statistics and, with `texts`, its internal representations. Needs
  // nothing of the device but layouts and a pipeline, so it works where a driver can only compile.
  // unsupported without caps.executable_properties.
  virtual Result<std::vector<PipelineExecutable>> inspect_pipeline(const PipelineDesc& desc, bool texts) = 0;
  virtual Result<std::unique_ptr<BindingSet>> create_binding_set(const Pipeline& pipeline,
                                                                 std::span<const BindingRange> ranges) = 0;
  virtual Result<std::unique_ptr<CommandList>> create_command_list(std::uint32_t timestamp_count,
                                                                   Lane lane = Lane::compute) = 0;

  // `body` records into a VkCommandBuffer that is being recorded, primary or secondary, outside of a render
  // pass. Leaves the compute bind point's pipeline, sets and push constants changed. internal: the first
  // misuse. Allocates nothing when `body` does not: pass a std::ref.
  virtual Result<void> record_into(void* vk_command_buffer,
                                   const std::function<void(HostRecorder&)>& body) = 0;

  // One vkQueueSubmit of the lists, all of `lane`, in order; returns the value of the lane's timeline that it
  // will signal. The device first waits for the value `after` of the other lane's timeline. Thread-safe;
  // allocates nothing once as many lists were submitted at once.
  virtual Result<std::uint64_t> submit(std::span<const CommandList* const> lists, Lane lane = Lane::compute,
                                       std::uint64_t after = 0) = 0;
  // Blocks (no spinning) until the lane's timeline reaches `value`; false when timeout_ns passed.
  // device_lost.
  virtual Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns, Lane lane = Lane::compute) = 0;
  // The same of the compute lane for a destructor, a minute at most: from a device that has not ended by then
  // nothing is destroyed any more.
  virtual void drain(std::uint64_t value) = 0;
  virtual Result<std::uint64_t> timeline(Lane lane) = 0;  // the VkSemaphore that submissions signal
  virtual bool has_transfer_queue() const = 0;
  virtual std::uint64_t submit_count() const = 0;  // vkQueueSubmit calls of the compute lane so far
  virtual std::uint64_t record_count() const = 0;  // command lists recorded so far

  virtual MemoryUse memory_use() const = 0;

  // Convenience over the above, through staging: blocking, for set-up and tests, not for the token loop.
  virtual Result<void> upload(Buffer& to, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Result<void> download(const Buffer& from, std::uint64_t offset, std::span<std::byte> bytes) = 0;

  virtual Result<std::vector<std::byte>> pipeline_cache() = 0;  // checksummed blob for the next run
};

}  // namespace tessera
