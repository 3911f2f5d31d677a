#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>

#include "api/glsl.h"
#include "api/handles.h"
#include "base/text.h"
#include "kernels/choose.h"

namespace tessera::api {

static_assert(static_cast<int>(Code::invalid_argument) == TESSERA_INVALID_ARGUMENT &&
              static_cast<int>(Code::no_device) == TESSERA_NO_DEVICE &&
              static_cast<int>(Code::internal) == TESSERA_INTERNAL);

tessera_status fill(tessera_error* error, Code code, const char* message) {
  const auto status = static_cast<tessera_status>(code);
  if (error != nullptr) {
    error->status = status;
    if (*message == '\0') message = tessera_status_text(status);
    const std::size_t size = std::strlen(message);
    std::size_t count = std::min(size, sizeof(error->message) - 1);
    if (count < size)  // no part of a character
      while (count > 0 && (static_cast<unsigned char>(message[count]) & 0xc0) == 0x80) --count;
    std::memcpy(error->message, message, count);
    error->message[count] = '\0';
  }
  return status;
}

Progress make_progress(tessera_progress_fn callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    return callback(user, std::string(stage).c_str(), done, total) == 0;
  };
}

Result<std::vector<CapOverride>> parse_caps(const char* const* texts, uint32_t count) {
  std::vector<CapOverride> out;
  if (count != 0) TSR_CHECK(require(texts, "caps"));
  for (uint32_t i = 0; i < count; ++i) {
    TSR_TRY(CapOverride cap, parse_cap_override(texts[i] == nullptr ? "" : texts[i]));
    out.push_back(std::move(cap));
  }
  return out;
}

namespace {

struct DeviceChoice {
  std::shared_ptr<Instance> instance;
  std::vector<DeviceReport> reports;
  std::vector<CapOverride> overrides;
  std::optional<HostDevice> host;  // then there is one report
};

Log make_log(const tessera_context_desc& desc) {
  if (desc.log == nullptr) return {};
  return [log = desc.log, user = desc.log_user](LogLevel level, std::string_view text) {
    log(user, static_cast<tessera_log_level>(level), std::string(text).c_str());
  };
}

std::string wanted_device(const tessera_context_desc& desc) {
  return desc.device == nullptr ? "" : desc.device;
}

// None where nothing was asked for and nothing can be used: a listing is then all there is to say.
Result<std::uint32_t> pick_for_listing(std::span<const DeviceReport> reports, const std::string& wanted) {
  auto picked = pick_device(reports, wanted);
  if (!picked && wanted.empty()) return std::numeric_limits<std::uint32_t>::max();
  return picked;
}

Result<DeviceChoice> open_instance(const tessera_context_desc& desc) {
  DeviceChoice choice;
  TSR_TRY(choice.overrides, parse_caps(desc.caps, desc.cap_count));
  Instance::Desc instance;
  instance.get_instance_proc_addr = desc.get_instance_proc_addr;
  instance.debug_messages = desc.debug_messages != 0;
  instance.log = make_log(desc);
  instance.allocation_callbacks = desc.allocation_callbacks;
  TSR_TRY(choice.host, make_host_device(desc, instance));
  TSR_TRY(choice.instance, Instance::create(instance));
  if (choice.host) {
    choice.reports = {choice.instance->report(*choice.host)};
  } else {
    TSR_TRY(choice.reports, choice.instance->enumerate());
  }
  return choice;
}

struct Hash {  // FNV-1a
  std::uint64_t value = 1469598103934665603u;
  void add(const void* bytes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      value = (value ^ static_cast<const unsigned char*>(bytes)[i]) * 1099511628211u;
  }
  std::string text() const {
    char text[32];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
    return text;
  }
};

// Everything that a pipeline cache depends on: the device, its driver, and our modules.
Hash device_hash(const DeviceReport& report) {
  Hash hash;
  hash.add(&report.vendor_id, 4);
  hash.add(&report.device_id, 4);
  hash.add(&report.driver_version, 4);
  hash.add(report.pipeline_cache_uuid.data(), report.pipeline_cache_uuid.size());
  for (const Kernel& k : kernels()) hash.add(k.module.data(), k.module.size());
  return hash;
}

// What rates depend on beside that. `report` as the device is opened.
std::string rates_key(const DeviceReport& report) {
  Hash hash = device_hash(report);
  const std::uint32_t version = tessera_version();
  hash.add(&version, 4);
  for (const NamedValue& v : list(report.limits, report.caps))
    if (v.chooses) hash.add(&v.value, sizeof(v.value));
  return hash.text();
}

Result<MeasuredRates> parse_rates(const char* const* texts, std::uint32_t count) {
  MeasuredRates out;
  if (count != 0) TSR_CHECK(require(texts, "rates"));
  for (std::uint32_t i = 0; i < count; ++i) {
    TSR_TRY(MeasuredRate rate, parse_rate(texts[i] == nullptr ? "" : texts[i]));
    if (std::ranges::count(rate_names(), rate.form) == 0) {
      std::string names;
      for (const std::string_view name : rate_names())
        names += (names.empty() ? "" : ", ") + std::string(name);
      return Error{Code::invalid_argument,
                   "measured rate of " + quote(rate.form) + ": the forms are " + names};
    }
    if (std::ranges::count(out.list, rate.form, &MeasuredRate::form) != 0)
      return Error{Code::invalid_argument, "measured rate of '" + rate.form + "' is given twice"};
    out.list.push_back(std::move(rate));
  }
  return out;
}

// Those of the host's files do no harm when they are broken.
void load_rates(const tessera_context_desc& desc, const std::string& key, const Log& log_to,
                MeasuredRates& rates) {
  if (desc.load_rates == nullptr) return;
  const char* const* texts = nullptr;
  std::uint32_t count = 0;
  desc.load_rates(desc.load_rates_user, key.c_str(), &texts, &count);
  auto loaded = parse_rates(texts, count);
  if (!loaded) {
    log(log_to, LogLevel::warning, "the measured rates are ignored: " + loaded.error().message);
    return;
  }
  for (MeasuredRate& rate : loaded->list)
    if (std::ranges::count(rates.list, rate.form, &MeasuredRate::form) == 0)
      rates.list.push_back(std::move(rate));
}

// How Device::create will report the device, but for what it opens.
Result<DeviceReport> opened(const DeviceChoice& choice, std::uint32_t index) {
  const auto report = std::ranges::find(choice.reports, index, &DeviceReport::index);
  if (report == choice.reports.end()) return Error{Code::internal, "the chosen device is not listed"};
  DeviceReport out = *report;
  TSR_CHECK(apply(choice.overrides, out.limits, out.caps));
  return out;
}

}  // namespace

bool asks_for_reference(const tessera_context_desc& desc) {
  std::string name = wanted_device(desc);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name == "reference";
}

Result<void> open_device(const tessera_context_desc& desc, tessera_context& context) {
  TSR_TRY(DeviceChoice choice, open_instance(desc));
  Device::Desc device;
  TSR_TRY(device.index, pick_device(choice.reports, wanted_device(desc)));
  device.log = make_log(desc);
  device.memory_budget = desc.memory_budget_bytes;
  device.low_priority = desc.low_priority != 0;
  device.transfer_queue = desc.transfer_queue != 0;
  TSR_TRY(const DeviceReport report, opened(choice, device.index));
  context.cache_key = device_hash(report).text();
  context.rates_key = rates_key(report);
  TSR_TRY(device.rates, parse_rates(desc.rates, desc.rate_count));
  load_rates(desc, context.rates_key, device.log, device.rates);
  device.overrides = std::move(choice.overrides);
  device.host = std::move(choice.host);
  if (desc.load_pipeline_cache != nullptr) {
    const void* bytes = nullptr;
    size_t count = 0;
    desc.load_pipeline_cache(desc.load_pipeline_cache_user, context.cache_key.c_str(), &bytes, &count);
    if (bytes != nullptr)
      device.pipeline_cache.assign(static_cast<const std::byte*>(bytes),
                                   static_cast<const std::byte*>(bytes) + count);
  }
  TSR_TRY(context.device, Device::create(choice.instance, device));
  context.device_name = context.device->report().name;
  return {};
}

namespace {

const char* type_name(DeviceType type) {
  switch (type) {
    case DeviceType::discrete: return "discrete";
    case DeviceType::integrated: return "integrated";
    case DeviceType::virtual_gpu: return "virtual";
    case DeviceType::cpu: return "cpu";
    case DeviceType::other: break;
  }
  return "other";
}

void list_device(const DeviceReport& report, bool chosen, const tessera_device_sink& sink) {
  tessera_device_info info{};
  info.size = sizeof(info);
  info.index = report.index;
  info.name = report.name.c_str();
  info.driver = report.driver.c_str();
  info.type = type_name(report.type);
  info.refused = report.refused.c_str();
  info.chosen = chosen;
  info.api_version = report.api_version;
  info.vendor_id = report.vendor_id;
  info.device_id = report.device_id;
  info.memory_bytes = report.device_memory_bytes;
  if (sink.device != nullptr) sink.device(sink.user, &info);
  if (sink.value != nullptr)
    for (const NamedValue& v : list(report.limits, report.caps))
      sink.value(sink.user, v.name.c_str(), v.value, v.is_cap);
  if (sink.kernel != nullptr)
    for (const Kernel& k : kernels())
      sink.kernel(sink.user, std::string(k.name).c_str(), std::string(k.origin).c_str(),
                  std::string(missing_capability(k.id, report.caps)).c_str());
  if (sink.matrix != nullptr)
    for (const MatrixShape& s : report.matrices.shapes) {
      tessera_matrix_shape shape{};
      shape.size = sizeof(shape);
      shape.m = s.m;
      shape.n = s.n;
      shape.k = s.k;
      shape.a = name(s.a).data();
      shape.c = name(s.c).data();
      shape.flexible = s.flexible;
      shape.group = s.scope == MatrixScope::workgroup ? s.group : 0;
      shape.emulated = report.matrices.emulated.c_str();
      sink.matrix(sink.user, &shape);
    }
}

}  // namespace
}  // namespace tessera::api

using namespace tessera;
using namespace tessera::api;

extern "C" {

const char* tessera_status_text(tessera_status status) {
  switch (status) {
    case TESSERA_OK: return "ok";
    case TESSERA_INVALID_ARGUMENT: return "invalid argument";
    case TESSERA_IO: return "input/output error";
    case TESSERA_BAD_MODEL: return "bad model file";
    case TESSERA_UNSUPPORTED: return "unsupported";
    case TESSERA_OUT_OF_MEMORY: return "out of memory";
    case TESSERA_NO_DEVICE: return "no usable device";
    case TESSERA_DEVICE_LOST: return "device lost";
    case TESSERA_CANCELLED: return "cancelled";
    case TESSERA_NUMERIC: return "not a number";
    case TESSERA_MISMATCH: return "verification failed";
    case TESSERA_INTERNAL: return "internal error";
  }
  return "unknown status";
}

uint32_t tessera_version(void) {
  return TESSERA_VERSION_MAJOR << 16 | TESSERA_VERSION_MINOR << 8 | TESSERA_VERSION_PATCH;
}

tessera_status tessera_context_create(const tessera_context_desc* desc, tessera_context** context,
                                      tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_context_desc d, sized(desc, "tessera_context_desc"));
    auto made = std::make_unique<tessera_context>();
    if (d.run_jobs != nullptr)
      made->run_jobs = [run = d.run_jobs, user = d.run_jobs_user](
                           std::uint32_t count, const std::function<void(std::uint32_t)>& job) {
        run(
            user, count,
            [](void* arg, uint32_t i) { (*static_cast<const std::function<void(std::uint32_t)>*>(arg))(i); },
            const_cast<void*>(static_cast<const void*>(&job)));
      };
    made->glsl = make_glsl_modules(d);
    if (asks_for_reference(d)) {
      made->device_name = "reference";
      if (d.host != nullptr)
        return Error{Code::invalid_argument, "the reference needs no device of a host's (host)"};
      if (d.cap_count != 0)
        return Error{Code::invalid_argument, "the reference has no limits or capabilities to lower (--cap)"};
      if (d.rate_count != 0)
        return Error{Code::invalid_argument,
                     "the reference has no forms of kernels to choose between (rates)"};
    } else {
      TSR_CHECK(open_device(d, *made));
    }
    *context = made.release();
    return {};
  });
}

void tessera_context_destroy(tessera_context* context) { delete context; }

const char* tessera_context_device_name(const tessera_context* context) {
  return context == nullptr ? "" : context->device_name.c_str();
}

const char* tessera_context_cache_key(const tessera_context* context) {
  return context == nullptr ? "" : context->cache_key.c_str();
}

const char* tessera_context_rates_key(const tessera_context* context) {
  return context == nullptr ? "" : context->rates_key.c_str();
}

tessera_status tessera_context_timeline(tessera_context* context, tessera_vk_semaphore* semaphore,
                                        tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_CHECK(require(semaphore, "semaphore"));
    if (context->device == nullptr)
      return Error{Code::unsupported, "the reference submits nothing and has no timeline"};
    TSR_TRY(const std::uint64_t handle, context->device->timeline(Lane::compute));
    *semaphore = to_handle<tessera_vk_semaphore>(handle);
    return {};
  });
}

tessera_status tessera_context_pipeline_cache(tessera_context* context, tessera_bytes_fn sink, void* user,
                                              tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    if (context->device == nullptr || sink == nullptr) return {};
    TSR_TRY(const std::vector<std::byte> blob, context->device->pipeline_cache());
    sink(user, blob.data(), blob.size());
    return {};
  });
}

tessera_status tessera_devices(const tessera_context_desc* desc, const tessera_device_sink* sink,
                               tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const tessera_context_desc d, sized(desc, "tessera_context_desc"));
    TSR_TRY(const tessera_device_sink s, sized(sink, "tessera_device_sink"));
    TSR_TRY(DeviceChoice choice, open_instance(d));
    TSR_TRY(const std::uint32_t picked, pick_for_listing(choice.reports, wanted_device(d)));
    for (DeviceReport& report : choice.reports) {
      const bool chosen = picked == report.index;
      const auto applied = apply(choice.overrides, report.limits, report.caps);
      restrict_to(report.caps, report.matrices);
      if (chosen) TSR_CHECK(applied);
      if (!applied.ok() && report.refused.empty()) report.refused = applied.error().message;
      list_device(report, chosen, s);
    }
    return {};
  });
}

}  // extern "C"
