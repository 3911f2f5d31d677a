/* Tessera: transformer models on any Vulkan GPU. The C ABI (C99).
 *
 *   tessera_context   a device, or the CPU reference ("reference")
 *   tessera_model     a file's weights description and tokenizer; cheap, holds no device memory
 *   tessera_session   one conversation: weights on the device, KV cache, sampler, position
 *   tessera_translator  an encoder-decoder: weights on the device, one text at a time
 *   tessera_plan      one operation that the host binds and records itself (tessera_binding)
 *
 * Rules for every call:
 * - A struct (but tessera_error) begins with `size`, its sizeof in the caller; TESSERA_INIT(type) gives one
 * with size set and the rest zero, and zero always means the default. Structs only ever grow at the end.
 * - Calls that can fail return a tessera_status and, when `error` is not NULL, fill it with one line for a
 * person.
 * - Out handles are written only on success. Destroying NULL is allowed. Destroy sessions before their model,
 *   models before their context.
 * - Strings are UTF-8 and zero-terminated; nothing is kept after a call returns unless the text says so.
 * - A context, a model, requirements, a plan and a binding may be used from several threads at once; a
 * session and a translator from one at a time.
 * - The library never prints, exits, aborts, reads the environment, or starts threads.
 */
#ifndef TESSERA_H
#define TESSERA_H

#include <stddef.h>
#include <stdint.h>

#define TESSERA_VERSION_MAJOR 0
#define TESSERA_VERSION_MINOR 1
#define TESSERA_VERSION_PATCH 0

#if defined(_WIN32)
#define TESSERA_API
#else
#define TESSERA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
template <class T>
inline T tessera_init_() { /* C++98 too */
  T value = T();
  value.size = sizeof(T);
  return value;
}
#define TESSERA_INIT(type) tessera_init_<type>()
#else
#define TESSERA_INIT(type) \
  { .size = sizeof(type) }
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tessera_status {
  TESSERA_OK = 0,
  TESSERA_INVALID_ARGUMENT = 1, /* the caller's: a flag, a shape, a prompt longer than the context */
  TESSERA_IO = 2,               /* a file or reader that cannot be read or written */
  TESSERA_BAD_MODEL = 3,        /* a model file that lies, is damaged or is truncated */
  TESSERA_UNSUPPORTED = 4,      /* well-formed, but not for this build or device */
  TESSERA_OUT_OF_MEMORY = 5,
  TESSERA_NO_DEVICE = 6,   /* no Vulkan loader, no device, or each one refused */
  TESSERA_DEVICE_LOST = 7, /* everything made from the context can only be destroyed */
  TESSERA_CANCELLED = 8,   /* a callback asked to stop */
  TESSERA_NUMERIC = 9,     /* the logits hold a NaN */
  TESSERA_MISMATCH = 10,   /* verification found an error over its bound */
  TESSERA_INTERNAL = 11    /* a bug in Tessera */
} tessera_status;

typedef struct tessera_error {
  tessera_status status;
  char message[1024]; /* one line, cut where it does not fit */
} tessera_error;

/* "invalid argument", ...; never NULL. */
TESSERA_API const char* tessera_status_text(tessera_status status);
/* major << 16 | minor << 8 | patch of the library that runs. */
TESSERA_API uint32_t tessera_version(void);

/* ---- Vulkan types --------------------------------------------------------------------------------------
 * Vulkan's handles and structs as vulkan.h declares them, so that this header compiles before it, after it
 * and without it; what vulkan.h calls VkBuffer is passed as it is. */

struct VkAllocationCallbacks;
struct VkCommandBuffer_T;
struct VkDevice_T;
struct VkInstance_T;
struct VkPhysicalDevice_T;
struct VkPhysicalDeviceFeatures2;
struct VkQueue_T;
struct VkSubmitInfo;

/* vulkan.h makes non-dispatchable handles pointers where pointers have 64 bits. */
#ifdef VK_USE_64_BIT_PTR_DEFINES
#define TESSERA_VK_POINTERS VK_USE_64_BIT_PTR_DEFINES
#elif defined(__LP64__) || defined(_WIN64) || defined(_M_X64) || defined(_M_IA64) || defined(__ia64) || \
    defined(__aarch64__) || defined(__powerpc64__) || (defined(__x86_64__) && !defined(__ILP32__)) ||   \
    (defined(__riscv) && __riscv_xlen == 64)
#define TESSERA_VK_POINTERS 1
#else
#define TESSERA_VK_POINTERS 0
#endif
#if TESSERA_VK_POINTERS
typedef struct VkBuffer_T* tessera_vk_buffer;
typedef struct VkDeviceMemory_T* tessera_vk_device_memory;
typedef struct VkSemaphore_T* tessera_vk_semaphore;
#else
typedef uint64_t tessera_vk_buffer;
typedef uint64_t tessera_vk_device_memory;
typedef uint64_t tessera_vk_semaphore;
#endif

/* ---- context ------------------------------------------------------------------------------------------- */

typedef struct tessera_context tessera_context;

typedef enum tessera_log_level {
  TESSERA_LOG_DEBUG = 0,
  TESSERA_LOG_INFO = 1,
  TESSERA_LOG_WARNING = 2,
  TESSERA_LOG_ERROR = 3
} tessera_log_level;
/* May be called from any thread that is inside a call of the library. */
typedef void (*tessera_log_fn)(void* user, tessera_log_level level, const char* text);
/* Long work reports `done` of `total` of a stage ("weights", "pipelines", "prefill", "verify", ...); a
 * nonzero return cancels. One call at a time; stage "pipelines" is reported from the threads of run_jobs. */
typedef int (*tessera_progress_fn)(void* user, const char* stage, uint64_t done, uint64_t total);
/* Runs job(arg, 0) ... job(arg, count-1), each once, on any threads, and returns when all have ended.
 * Sessions that are created at once call it at once. */
typedef void (*tessera_run_jobs_fn)(void* user, uint32_t count, void (*job)(void* arg, uint32_t index),
                                    void* arg);

/* Device memory that a host gives from its own allocator. */
typedef struct tessera_memory_request {
  size_t size;
  uint64_t bytes, alignment;
  uint32_t memory_type; /* its index in VkPhysicalDeviceMemoryProperties */
  int mapped;           /* nonzero: the block must be mapped; else it may be */
  const char* name;     /* of the buffer, for the host's reports */
} tessera_memory_request;
typedef struct tessera_memory_block {
  size_t size;
  tessera_vk_device_memory memory; /* allocated with request.memory_type */
  uint64_t offset;                 /* a multiple of request.alignment */
  void* mapped;                    /* where `offset` is mapped while the block lives; NULL: it is not */
  void* user;                      /* the host's own, for free_memory */
} tessera_memory_block;

/* A Vulkan device that the host made and keeps: nothing of it is destroyed or waited for as a whole, and
 * every handle is used as it is. tessera_requirements says what it should have enabled. All but the handles
 * and the callbacks is read during tessera_context_create only. Handles and callbacks must outlive the
 * context. */
typedef struct tessera_host_device {
  size_t size;
  struct VkInstance_T* instance; /* made through tessera_context_desc.get_instance_proc_addr */
  struct VkPhysicalDevice_T* physical_device;
  struct VkDevice_T* device;
  uint32_t api_version;          /* VkApplicationInfo::apiVersion of the instance; 0: Vulkan 1.2 */
  const char* const* extensions; /* device extensions that are enabled */
  uint32_t extension_count;
  /* The features that are enabled: VkDeviceCreateInfo::pNext, a chain of VkPhysicalDevice*Features with or
   * without VkPhysicalDeviceFeatures2. What it does not enable is not used, whatever the device could do. */
  const void* features;
  struct VkQueue_T* queue; /* has compute */
  uint32_t queue_family;
  /* A second queue, for weights that are streamed; NULL: `queue` does it. Buffers of weights are shared
   * between both families when they differ. */
  struct VkQueue_T* transfer_queue;
  uint32_t transfer_queue_family;
  /* How work reaches a queue that the host uses too: either `submit`, which does what vkQueueSubmit does,
   * now or later, without waiting for the calling thread, and gives its VkResult; or `lock` and `unlock`
   * around vkQueueSubmit. All NULL: while a call of the library runs, neither the host nor another context
   * uses the queue. Contexts that share a queue and are called from several threads need one of the two. They
   * must not call the library. */
  int32_t (*submit)(void* user, struct VkQueue_T* queue, const struct VkSubmitInfo* submit);
  void (*lock)(void* user, struct VkQueue_T* queue);
  void (*unlock)(void* user, struct VkQueue_T* queue);
  void* queue_user;
  /* Where memory of buffers comes from; NULL: vkAllocateMemory. Gives VK_SUCCESS, or
   * VK_ERROR_OUT_OF_DEVICE_MEMORY, on which another memory type may be asked for. Called from any thread that
   * is inside a call of the library. Both or none. */
  int32_t (*allocate_memory)(void* user, const tessera_memory_request* request, tessera_memory_block* block);
  void (*free_memory)(void* user, const tessera_memory_block* block);
  void* memory_user;
} tessera_host_device;

/* One compute shader in GLSL for Vulkan 1.2 (SPIR-V 1.5), whole: `source` includes nothing and is
 * zero-terminated. */
typedef struct tessera_glsl_request {
  size_t size;
  const char* kernel; /* "attention_keys": what it is a variant of */
  const char* source;
  size_t bytes;    /* of source */
  const char* key; /* a hash of source, under which a host may keep the module */
  /* One of them is called with `answer`: `module` with the SPIR-V, `log` with the compiler's messages as they
   * are (glslang's "ERROR: 1:3: ..." are understood: text 1 is score_glsl, 2 mask_glsl). */
  void* answer;
  void (*module)(void* answer, const void* spirv, size_t bytes);
  void (*log)(void* answer, const char* text);
} tessera_glsl_request;
/* Nonzero: it failed. May be called from any thread that is inside a call of the library, from several at
 * once. */
typedef int (*tessera_compile_glsl_fn)(void* user, const tessera_glsl_request* request);

typedef struct tessera_context_desc {
  size_t size;
  const char* device;      /* NULL or "": the best. An index, part of a name (any case), or "reference" */
  const char* const* caps; /* "name=value": lowers a limit or capability (see tessera_devices) */
  uint32_t cap_count;
  /* Asked once, when the device is known, for the blob that tessera_context_pipeline_cache gave in an earlier
   * run under this cache key. It sets *bytes and *count (valid until tessera_context_create returns), or
   * leaves them 0. A damaged or foreign blob is ignored with a warning. NULL: none. */
  void (*load_pipeline_cache)(void* user, const char* cache_key, const void** bytes, size_t* count);
  void* load_pipeline_cache_user;
  void* get_instance_proc_addr; /* PFN_vkGetInstanceProcAddr; NULL: the system's Vulkan loader is opened */
  tessera_log_fn log;           /* NULL: silent */
  void* log_user;
  tessera_run_jobs_fn run_jobs; /* the host's threads, for making pipelines; NULL: the calling thread */
  void* run_jobs_user;
  int debug_messages; /* nonzero: the validation layers' messages, when the host enables them, come as errors
                       */
  /* "form=GFLOP/s": how fast forms of kernels are on this device, as tessera_measure_rates (tessera_tools.h)
   * found; where several can do the same, the fastest is taken. Without any, a fixed order decides. A form
   * that this library does not have, or no such number, is refused. */
  const char* const* rates;
  uint32_t rate_count;
  /* Asked once, when the device is known, for rates that were kept under this rates key: it sets *rates and
   * *count (valid until tessera_context_create returns), or leaves them 0. They come after those above. All
   * of them are ignored with a warning when one is not right. NULL: none. */
  void (*load_rates)(void* user, const char* rates_key, const char* const** rates, uint32_t* count);
  void* load_rates_user;
  /* The device of a host; NULL: an own instance and device. With one, `device` is NULL or "", and
   * debug_messages is not used: the validation layers speak to the host. */
  const tessera_host_device* host;
  /* Of every Vulkan object that is made; copied. NULL: the driver's own. */
  const struct VkAllocationCallbacks* allocation_callbacks;
  /* Bytes of device memory that all buffers of the context may take at once; 0: no such limit. A buffer above
   * it, or above what VK_EXT_memory_budget says is left, is refused with out_of_memory. */
  uint64_t memory_budget_bytes;
  /* Of an own device. low_priority: other processes' work goes first, where the driver has priorities
   * (VK_KHR_global_priority). transfer_queue: a second queue for weights that are streamed, where the device
   * has a family that only copies. */
  int low_priority;
  int transfer_queue;
  /* For score_glsl and mask_glsl: tessera_glsl_compile (tessera_glsl.h), or a compiler of the host's. Each
   * text is compiled once a context. NULL: they are refused. */
  tessera_compile_glsl_fn compile_glsl;
  void* compile_glsl_user;
} tessera_context_desc;

TESSERA_API tessera_status tessera_context_create(const tessera_context_desc* desc, tessera_context** context,
                                                  tessera_error* error);
TESSERA_API void tessera_context_destroy(tessera_context* context);
/* The device's own name, or "reference". Lives as long as the context. */
TESSERA_API const char* tessera_context_device_name(const tessera_context* context);
/* A name for a pipeline-cache file: device, driver and build. Lives as long as the context; "" for the
 * reference. */
TESSERA_API const char* tessera_context_cache_key(const tessera_context* context);
/* A name for what tessera_measure_rates finds: device, driver, library, and the limits and capabilities that
 * kernels are chosen by, as caps or a host's device left them. Lives as long as the context; "" for the
 * reference. */
TESSERA_API const char* tessera_context_rates_key(const tessera_context* context);
/* The timeline semaphore that every submission to `queue` signals, with a value one higher each; those to a
 * transfer_queue have their own. It lives as long as the context: the host's submissions that wait for it
 * have completed before the context is destroyed. unsupported: the reference has none. */
TESSERA_API tessera_status tessera_context_timeline(tessera_context* context, tessera_vk_semaphore* semaphore,
                                                    tessera_error* error);
/* Calls `sink` once with the blob (nothing for the reference). */
typedef void (*tessera_bytes_fn)(void* user, const void* bytes, size_t count);
TESSERA_API tessera_status tessera_context_pipeline_cache(tessera_context* context, tessera_bytes_fn sink,
                                                          void* user, tessera_error* error);

/* ---- devices ------------------------------------------------------------------------------------------- */

typedef struct tessera_device_info {
  size_t size;
  uint32_t index;
  const char* name;
  const char* driver;
  const char* type;     /* "discrete", "integrated", "virtual", "cpu", "other" */
  const char* refused;  /* why it cannot be used; "" when it can */
  int chosen;           /* nonzero: tessera_context_create takes this one for the same desc */
  uint32_t api_version; /* as Vulkan encodes it */
  uint32_t vendor_id, device_id;
  uint64_t memory_bytes; /* device-local */
} tessera_device_info;

/* What the device's matrix units multiply: c(m,n) += a(m,k) b(k,n). Types are "f16", "bf16", "f32", "s8",
 * "u8", "s32", "u32". A flexible shape (VK_NV_cooperative_matrix2) takes multiples of m, n, k. */
typedef struct tessera_matrix_shape {
  size_t size;
  uint32_t m, n, k;
  const char* a; /* of a and b */
  const char* c; /* of c and the result */
  int flexible;
  uint32_t group;       /* invocations of the workgroup that owns it; 0: a subgroup does */
  const char* emulated; /* why this is no faster than scalar code; "" when it is a matrix unit */
} tessera_matrix_shape;

/* For each device, calls `device` (strings live during the call), then `value` for each of its limits and
 * capabilities under the names that caps take, then `kernel` for each SPIR-V module: origin is "built" or
 * "prebuilt", missing is the capability the device lacks for it or "", then `matrix` for each shape of its
 * matrix units. Any callback may be NULL. */
typedef struct tessera_device_sink {
  size_t size;
  void* user;
  void (*device)(void* user, const tessera_device_info* info);
  void (*value)(void* user, const char* name, double value, int is_capability);
  void (*kernel)(void* user, const char* name, const char* origin, const char* missing);
  void (*matrix)(void* user, const tessera_matrix_shape* shape);
} tessera_device_sink;
TESSERA_API tessera_status tessera_devices(const tessera_context_desc* desc, const tessera_device_sink* sink,
                                           tessera_error* error);

/* ---- requirements -------------------------------------------------------------------------------------- */

/* What a host should enable when it makes the Vulkan device that it lends (tessera_host_device). */
typedef struct tessera_requirements tessera_requirements;

typedef struct tessera_requirements_desc {
  size_t size;
  void* get_instance_proc_addr; /* PFN_vkGetInstanceProcAddr; NULL: the system's Vulkan loader is opened */
  /* Made through get_instance_proc_addr; NULL: there is none yet, so only instance extensions are told. */
  struct VkInstance_T* instance;
  struct VkPhysicalDevice_T* physical_device; /* of that instance */
  uint32_t api_version;                       /* VkApplicationInfo::apiVersion; 0: Vulkan 1.2 */
  const char* const* caps; /* as in tessera_context_desc: what is lowered to 0 is not asked for */
  uint32_t cap_count;
} tessera_requirements_desc;

typedef enum tessera_requirement_kind {
  TESSERA_INSTANCE_EXTENSION = 0,
  TESSERA_DEVICE_EXTENSION = 1,
  TESSERA_DEVICE_FEATURE = 2
} tessera_requirement_kind;

typedef struct tessera_requirement { /* strings live as long as the requirements */
  size_t size;
  tessera_requirement_kind kind;
  const char* name;      /* of the extension, or the feature's member */
  const char* structure; /* of a feature: "VkPhysicalDeviceVulkan12Features"; else "" */
  const char* use;       /* what for */
  int required;          /* nonzero: without it there is no context; else something is slower or missing */
  int available;         /* nonzero: the device has it */
} tessera_requirement;

#define TESSERA_NO_QUEUE_FAMILY 0xffffffffu

/* All of it lives as long as the requirements. */
typedef struct tessera_requirements_info {
  size_t size;
  const char* refused; /* why the device cannot be used; "" when it can, or when there is none yet */
  /* For VkInstanceCreateInfo (with instance_create_flags) and VkDeviceCreateInfo as they are: all that are
   * available, required or not. */
  const char* const* instance_extensions;
  uint32_t instance_extension_count;
  const char* const* device_extensions;
  uint32_t device_extension_count;
  /* For VkDeviceCreateInfo::pNext as it is, with its pEnabledFeatures NULL: the structs of Vulkan 1.1, 1.2
   * and, where api_version and the device have it, 1.3, and those of extensions. A host may set more bits in
   * them and link more structs: none that is there already, and none whose features
   * VkPhysicalDeviceVulkanXYFeatures of the chain contains. One with such structs of its own uses
   * tessera_requirements_enable. NULL without a device, and when it is refused. */
  struct VkPhysicalDeviceFeatures2* features;
  /* TESSERA_NO_QUEUE_FAMILY where there is none. queue_family: compute, and graphics too where there is such
   * a family; async_queue_family: compute beside graphics; transfer_queue_family: only copies. */
  uint32_t queue_family, async_queue_family, transfer_queue_family;
  uint32_t instance_create_flags; /* of VkInstanceCreateInfo, to be set with instance_extensions */
} tessera_requirements_info;

TESSERA_API tessera_status tessera_requirements_create(const tessera_requirements_desc* desc,
                                                       tessera_requirements** requirements,
                                                       tessera_error* error);
TESSERA_API void tessera_requirements_destroy(tessera_requirements* requirements);
TESSERA_API tessera_status tessera_requirements_get_info(const tessera_requirements* requirements,
                                                         tessera_requirements_info* info,
                                                         tessera_error* error);
/* For a host with feature structs of its own: sets in `chain`, which is to become VkDeviceCreateInfo::pNext,
 * every feature that is asked for, where it has a struct with it (of Vulkan 1.1, 1.2 or 1.3, or of the
 * feature alone). `left`: how many have no place there; NULL: not wanted. invalid_argument without a device,
 * no_device when it is refused. */
TESSERA_API tessera_status tessera_requirements_enable(const tessera_requirements* requirements, void* chain,
                                                       uint32_t* left, tessera_error* error);
/* Calls `each` for every one of them, and for what is required and not available. */
TESSERA_API tessera_status tessera_requirements_list(const tessera_requirements* requirements,
                                                     void (*each)(void* user,
                                                                  const tessera_requirement* requirement),
                                                     void* user, tessera_error* error);

/* ---- model --------------------------------------------------------------------------------------------- */

typedef struct tessera_model tessera_model;

typedef struct tessera_model_desc { /* exactly one of path, memory, read */
  size_t size;
  const char* path;
  const void* memory; /* must outlive the model and its sessions */
  uint64_t memory_bytes;
  /* Nonzero: failed. Called while the model lives: by its load, by what brings weights, and by save and
   * restore; by threads that create sessions of it at once, at once. */
  int (*read)(void* user, uint64_t offset, void* out, size_t count);
  void* read_user;
  uint64_t read_bytes; /* the file's size */
} tessera_model_desc;

TESSERA_API tessera_status tessera_model_load(tessera_context* context, const tessera_model_desc* desc,
                                              tessera_model** model, tessera_error* error);
TESSERA_API void tessera_model_destroy(tessera_model* model);

typedef struct tessera_model_info {
  size_t size;
  const char* architecture; /* lives as long as the model */
  uint32_t vocab, context, layers, dim;
  uint64_t parameters;
} tessera_model_info;
TESSERA_API tessera_status tessera_model_get_info(const tessera_model* model, tessera_model_info* info,
                                                  tessera_error* error);

/* Ids of `text` (`bytes` long). Writes up to `capacity` ids and the number there are to `count`.
 * special: BOS and the like as the vocabulary says (an empty text is BOS alone); parse_special: control
 * tokens written in the text count.
 */
TESSERA_API tessera_status tessera_tokenize(const tessera_model* model, const char* text, size_t bytes,
                                            int special, int parse_special, uint32_t* ids, size_t capacity,
                                            size_t* count, tessera_error* error);
/* The text of ids, always valid UTF-8, handed to `sink` once. */
TESSERA_API tessera_status tessera_detokenize(const tessera_model* model, const uint32_t* ids, size_t count,
                                              tessera_bytes_fn sink, void* user, tessera_error* error);

/* ---- session ------------------------------------------------------------------------------------------- */

typedef struct tessera_session tessera_session;

typedef struct tessera_sampler { /* applied in this order; ties go to the lowest id */
  size_t size;
  float penalty;     /* of ids among the last 64 tokens: 0 and 1 are off */
  float temperature; /* 0: greedy */
  uint32_t top_k;    /* 0: all */
  float top_p;       /* 0 and 1: all */
  float min_p;       /* 0: all */
  uint64_t seed;     /* same seed, device and build: same text */
} tessera_sampler;

typedef enum tessera_kv_type {
  TESSERA_KV_DEFAULT = 0,
  TESSERA_KV_F32 = 1,
  TESSERA_KV_F16 = 2,
  TESSERA_KV_MAX = 0x7fffffff /* not a type: every int fits the enum */
} tessera_kv_type;

/* What operands of products and of attention may be rounded to; sums, softmax and norms are f32 in any case.
 */
typedef enum tessera_precision {
  TESSERA_PRECISION_F32 = 0,
  /* f16, bf16 or blocks of 8-bit integers, where the device has faster instructions for them. Verified with
   * bounds that allow for it; docs/verification.md. */
  TESSERA_PRECISION_MIXED = 1,
  TESSERA_PRECISION_MAX = 0x7fffffff /* not a precision: every int fits the enum */
} tessera_precision;

typedef struct tessera_session_desc {
  size_t size;
  uint32_t context;               /* tokens the KV cache holds; 0: the model's, at most 4096 */
  uint32_t chunk;                 /* prompt tokens of one pass; 0: 64 */
  tessera_kv_type kv_type;        /* default: f32 for a model in F32, else f16 */
  const tessera_sampler* sampler; /* NULL: greedy */
  /* When set, receives the logits of every position that is evaluated, in order. */
  void (*logits)(void* user, uint32_t position, const float* logits, uint32_t vocab);
  void* logits_user;
  tessera_progress_fn progress; /* while creating and during prompts */
  void* progress_user;
  tessera_precision precision; /* of every product and attention; default: f32, whatever the weights are */
  /* Bytes of weights that a step brings to the device, rounded up to a row; create brings none then. 0:
   * create brings them all. */
  uint64_t stream_bytes;
} tessera_session_desc;

/* Makes every pipeline and command list the session needs, and without stream_bytes uploads the weights. */
TESSERA_API tessera_status tessera_session_create(tessera_model* model, const tessera_session_desc* desc,
                                                  tessera_session** session, tessera_error* error);
TESSERA_API void tessera_session_destroy(tessera_session* session);
/* A new sampler from the next token that is submitted on. */
TESSERA_API tessera_status tessera_session_set_sampler(tessera_session* session,
                                                       const tessera_sampler* sampler, tessera_error* error);
/* Forgets everything but the weights, a generation that is under way too. */
TESSERA_API tessera_status tessera_session_reset(tessera_session* session, tessera_error* error);

/* Adds tokens after what is there. They are evaluated by the next call of generate, begin or next.
 * invalid_argument when they do not fit the context, an id is not of the vocabulary, or a generation is under
 * way. */
TESSERA_API tessera_status tessera_session_append(tessera_session* session, const uint32_t* ids, size_t count,
                                                  tessera_error* error);
/* Evaluates what was appended and chooses one token. */
TESSERA_API tessera_status tessera_session_next(tessera_session* session, uint32_t* id, tessera_error* error);

typedef enum tessera_stop {
  TESSERA_STOP_LENGTH = 0,  /* max_tokens */
  TESSERA_STOP_EOS = 1,     /* an end token; it is not part of the text */
  TESSERA_STOP_TEXT = 2,    /* one of stop_texts; it is not part of the text */
  TESSERA_STOP_CONTEXT = 3, /* the KV cache is full */
  TESSERA_STOP_CALLBACK = 4 /* on_text, on_token or tessera_session_cancel asked for it */
} tessera_stop;

typedef struct tessera_generate_desc {
  size_t size;
  uint32_t max_tokens; /* 0: 256 */
  int ignore_eos;
  const char* const* stop_texts;
  uint32_t stop_count;
  /* Text as it becomes certain: valid UTF-8, never a part of a character or of a stop text. A character whose
   * tokens are split between two calls comes with the second one; stop texts are looked for within one call.
   * A nonzero return stops, and what is held back then begins the next generation's. May be NULL. */
  int (*on_text)(void* user, const char* text, size_t bytes);
  /* Every id chosen, an end token included. A nonzero return stops. May be NULL. */
  int (*on_token)(void* user, uint32_t id);
  void* user;
} tessera_generate_desc;
/* begin, and steps without a budget until it has ended. */
TESSERA_API tessera_status tessera_generate(tessera_session* session, const tessera_generate_desc* desc,
                                            tessera_stop* stop, tessera_error* error);

/* A generation in steps, for a host that draws frames: begin, then step once a frame until it is done.
 * docs/embedding.md. on_text and on_token are called inside step, poll, wait, cancel and save; a call of
 * theirs that would change the session is refused. */
TESSERA_API tessera_status tessera_session_begin(tessera_session* session, const tessera_generate_desc* desc,
                                                 tessera_error* error);

typedef struct tessera_step_desc {
  size_t size;
  /* GPU time of what this step submits, in microseconds; 0: no budget, and a step is the rest of one pass (a
   * chunk of the prompt, or a token). It is kept by times that were measured on this device, of each slice of
   * a pass. A slice that was never measured is submitted alone; one that is over the budget by itself is
   * recorded again in smaller pieces, and alone where it has none or they would take less than about 50 us.
   * What earlier steps submitted does not count: each submission is within its own budget. */
  double budget_us;
  /* Submissions of this session that may be unfinished at once; with as many, a step submits nothing. A host
   * with two frames in flight wants 2. 0: 2; at most 8. */
  uint32_t in_flight;
} tessera_step_desc;

typedef enum tessera_step_state {
  TESSERA_STEP_MORE = 0,    /* work was submitted; more follows */
  TESSERA_STEP_WAITING = 1, /* nothing was submitted: what is in flight must end first */
  TESSERA_STEP_DONE = 2,    /* the generation has ended; `stop` says why. Steps do no more */
  TESSERA_STEP_LOADING =
      3 /* weights were brought to the device instead; loaded_bytes of total_bytes are there */
} tessera_step_state;

typedef struct tessera_step_result {
  size_t size;
  tessera_step_state state;
  tessera_stop stop;   /* when done */
  uint32_t tokens;     /* of the generation, so far */
  int idle;            /* all that was submitted has ended */
  uint64_t timeline;   /* what the submission signals on the context's timeline; 0: nothing was submitted */
  double submitted_us; /* its predicted cost, no less than what it takes; 0: not known */
  double next_us;      /* of the slice after it; 0: not known, or none */
  int alone;           /* nonzero: it is one slice that was never measured or is over the budget */
  uint64_t loaded_bytes, total_bytes; /* of weights; both 0 on the reference */
} tessera_step_result;

/* Hands out the text of what has ended, then submits as many slices as fit, also of passes and tokens that
 * follow each other, in one vkQueueSubmit at most. Never waits for the GPU; the reference, which has none,
 * computes one pass. While weights are not all there (stream_bytes, release_weights) it brings some of them
 * and submits nothing else; for that alone no generation is needed. After an error the generation has ended,
 * and what was submitted ahead is ignored. `result` may be NULL. */
TESSERA_API tessera_status tessera_session_step(tessera_session* session, const tessera_step_desc* desc,
                                                tessera_step_result* result, tessera_error* error);
/* Hands out the text of what has ended, and submits nothing. `state` is done or waiting. */
TESSERA_API tessera_status tessera_session_poll(tessera_session* session, tessera_step_result* result,
                                                tessera_error* error);
/* The same when all that was submitted has ended, what a cancel dropped included, or timeout_ns have passed.
 */
TESSERA_API tessera_status tessera_session_wait(tessera_session* session, uint64_t timeout_ns,
                                                tessera_step_result* result, tessera_error* error);
/* Ends the generation (TESSERA_STOP_CALLBACK). What is in flight is left to end by itself and ignored; tokens
 * may be appended and another generation begun at once. Without a generation nothing happens. */
TESSERA_API tessera_status tessera_session_cancel(tessera_session* session, tessera_error* error);

/* Frees the weights' memory on the device, when what is in flight has ended; everything else stays. The next
 * call that needs them brings them back: steps by stream_bytes, or all at once without. */
TESSERA_API tessera_status tessera_session_release_weights(tessera_session* session, tessera_error* error);

/* Hands the session's state to `sink`, in parts: its tokens, the rows of the KV cache that they use, the
 * sampler, and what is held back of its text; not its weights. Waits for what is in flight. A generation that
 * is under way goes on, and is not saved itself: of a restored one, begin says again what it shall do, and
 * the text that was held back comes with its first. */
TESSERA_API tessera_status tessera_session_save(tessera_session* session, tessera_bytes_fn sink, void* user,
                                                tessera_error* error);
/* Puts that state into a session of the same model and KV type, on any context and device: the same text
 * follows where the same arithmetic does. Its context may be another, if the tokens fit. invalid_argument:
 * bytes that are damaged, no saved session, or another model's; the session is as it was. */
TESSERA_API tessera_status tessera_session_restore(tessera_session* session, const void* bytes, size_t count,
                                                   tessera_error* error);

typedef struct tessera_session_stats {
  size_t size;
  uint32_t position, context; /* tokens in the KV cache, and room */
  double load_seconds;        /* weights to the device */
  double pipeline_seconds;    /* making pipelines */
  uint32_t pipelines;
  uint64_t prefill_tokens;
  double prefill_seconds;
  uint64_t decode_tokens;
  double decode_seconds;
  uint64_t prefill_submits, decode_submits; /* vkQueueSubmit calls of passes; reading logits adds its own */
  uint64_t records;                         /* command lists recorded since creation */
  uint64_t decode_records;                  /* of these, during decode */
  uint64_t weight_bytes, cache_bytes, arena_bytes; /* on the device */
  uint64_t device_peak_bytes; /* the most that the context ever had allocated there, staging included */
} tessera_session_stats;
TESSERA_API tessera_status tessera_session_get_stats(const tessera_session* session,
                                                     tessera_session_stats* stats, tessera_error* error);

/* ---- translator ----------------------------------------------------------------------------------------
 * An encoder-decoder (the 2017 Transformer): config.json, weights in safetensors, two vocabularies.
 * docs/translate.md says what they hold. */

typedef struct tessera_translator tessera_translator;

typedef struct tessera_file { /* one file of a model, in memory */
  size_t size;
  const char* name; /* "config.json" */
  const void* memory;
  uint64_t memory_bytes;
} tessera_file;

typedef struct tessera_translator_desc {
  size_t size;
  const char* path;          /* a folder of those files, with one *.safetensors */
  const tessera_file* files; /* or those files; their memory must outlive the translator */
  uint32_t file_count;
  uint32_t beams;               /* hypotheses followed at once, at most; 0: 1, which is greedy */
  uint32_t max_source;          /* tokens of a text, at most; 0: 256 */
  uint32_t max_target;          /* tokens of a translation, at most; 0: 256 */
  tessera_progress_fn progress; /* while creating and translating */
  void* progress_user;
  tessera_precision precision; /* as in a session */
} tessera_translator_desc;

/* Uploads the weights and makes every pipeline and command list. Used from one thread at a time; destroy it
 * before its context. */
TESSERA_API tessera_status tessera_translator_create(tessera_context* context,
                                                     const tessera_translator_desc* desc,
                                                     tessera_translator** translator, tessera_error* error);
TESSERA_API void tessera_translator_destroy(tessera_translator* translator);

typedef struct tessera_hypothesis { /* lives during the callback */
  size_t size;
  const char* text;    /* zero-terminated UTF-8 */
  const uint32_t* ids; /* of the target vocabulary, the prefix's first; neither BOS nor EOS */
  size_t id_count;
  double score; /* sum of natural log-probabilities of the ids, and of EOS when it is finished */
  int finished; /* nonzero: ended by EOS; else max_tokens was reached */
} tessera_hypothesis;

typedef struct tessera_translate_desc {
  size_t size;
  const char* prefix;  /* every translation begins with this text; NULL: nothing */
  uint32_t beams;      /* 0: the translator's; 1: greedy */
  uint32_t max_tokens; /* 0: max_target */
  /* Called once with the ids of the text, then once for each hypothesis, the best first: as many as beams, or
   * fewer. Either may be NULL. */
  void (*source)(void* user, const uint32_t* ids, size_t count);
  void (*hypothesis)(void* user, const tessera_hypothesis* hypothesis);
  void* user;
} tessera_translate_desc;

/* Where every token of a vocabulary is one character, a text is its characters, and spaces between them are
 * left out unless the space is a token; else it is the words between spaces. invalid_argument: a text without
 * tokens or with too many, or a character or word that the vocabulary lacks when it has no <unk>. */
TESSERA_API tessera_status tessera_translate(tessera_translator* translator, const char* text, size_t bytes,
                                             const tessera_translate_desc* desc, tessera_error* error);

/* ---- verify -------------------------------------------------------------------------------------------- */

typedef struct tessera_verify_row { /* the worst element of one kind of op, or of the whole */
  size_t size;
  const char* kind;  /* "matmul", ...; "whole" for the final logits */
  uint64_t ops;      /* checked */
  uint64_t elements; /* checked */
  double worst_error;
  double worst_bound; /* of the same element */
  double worst_ratio; /* error / bound: over 1 is a failure */
  double
      largest; /* of "whole": the largest magnitude of a final logit; beside it the bound should be small */
} tessera_verify_row;

typedef struct tessera_verify_desc {
  size_t size;
  const uint32_t* ids; /* the tokens to run; NULL: a built-in pattern of the vocabulary */
  size_t id_count;
  uint32_t context, chunk; /* as in a session; 0: small ones that cover every path */
  tessera_kv_type kv_type;
  void (*row)(void* user, const tessera_verify_row* row);
  void* user;
  tessera_progress_fn progress;
  void* progress_user;
  tessera_precision precision; /* as in a session */
} tessera_verify_desc;

/* Each op against the CPU reference on the device's own inputs, the fused graph in the real arena against one
 * without aliasing bit by bit, and the final logits against the unfused graph. TESSERA_MISMATCH names the
 * first op over its bound. */
TESSERA_API tessera_status tessera_verify(tessera_model* model, const tessera_verify_desc* desc,
                                          tessera_error* error);
/* The same of a translator: encodes a text and decodes a few positions with its beams, which are reordered in
 * between, at its precision. `ids` are the text's; context, chunk, kv_type and precision must be 0. */
TESSERA_API tessera_status tessera_translator_verify(tessera_translator* translator,
                                                     const tessera_verify_desc* desc, tessera_error* error);

/* ---- operations ---------------------------------------------------------------------------------------- */

/* One operation on named tensors, on a device or the reference, without a model. tessera_ops lists them. */

typedef struct tessera_tensor {
  size_t size; /* an array steps by its first element's */
  const char* name;
  const char* type;      /* "F32", "F16", "BF16", "U32", "I32", "I64", "U8", "BOOL"; weights: "Q8_0", ... */
  const uint64_t* shape; /* outermost first */
  uint32_t dims;
  const void* data; /* row-major */
  uint64_t bytes;
} tessera_tensor;

typedef struct tessera_op_desc {
  size_t size;
  const char* op;
  const tessera_tensor* inputs;
  uint32_t input_count;
  const char* const* attributes; /* "name=value" */
  uint32_t attribute_count;
  const char* const* outputs; /* names of optional outputs that are wanted too */
  uint32_t output_count;
  /* Called for each output when all arguments are accepted and before anything runs: gives where its `bytes`
   * go, or NULL for nowhere. The tensor's data is NULL. */
  void* (*output)(void* user, const tessera_tensor* tensor);
  void* user;
  uint32_t repeat; /* how often it runs; 0: once */
  double*
      seconds; /* NULL, or room for the time of each run: the device's timestamps, or the reference's time */
  /* Of attention: functions in GLSL that change each score and say which there are,
   *   float score(float s, uint b, uint h, uint q, uint k)    bool mask(uint b, uint h, uint q, uint k)
   * docs/user_functions.md. Inputs "user.NAME" are what they read as NAME[i]. NULL or "": none.
   * invalid_argument names the line; unsupported without compile_glsl, and on the reference. */
  const char* score_glsl;
  const char* mask_glsl;
} tessera_op_desc;

/* invalid_argument names the op and the tensor, attribute or element that does not fit; nothing has run then,
 * and nothing of a tensor's size was allocated for the device. */
TESSERA_API tessera_status tessera_op_run(tessera_context* context, const tessera_op_desc* desc,
                                          tessera_error* error);

/* Every op, then its tensors and attributes. Strings live during the call. */
typedef struct tessera_op_list_sink {
  size_t size;
  void* user;
  void (*op)(void* user, const char* name, const char* summary, const char* equations);
  void (*tensor)(void* user, const char* name, const char* types, const char* shape, const char* text,
                 int is_output, int is_optional);
  /* kind: "integer", "number" or "choice"; fallback: the default, "" when there is none. */
  void (*attribute)(void* user, const char* name, const char* kind, const char* fallback, const char* allowed,
                    const char* text);
} tessera_op_list_sink;
TESSERA_API tessera_status tessera_ops(const tessera_op_list_sink* sink, tessera_error* error);

/* ---- plans ---------------------------------------------------------------------------------------------
 * An operation that the host runs itself: planned from shapes, bound to the host's buffers, recorded into the
 * host's command buffers. docs/embedding.md shows a frame of it.
 *
 *   tessera_plan      which kernels run, and what the host binds; immutable, any thread
 *   tessera_binding   a plan with memory, ready to be recorded as often as wanted
 */

typedef struct tessera_plan tessera_plan;
typedef struct tessera_binding tessera_binding;

/* From `op`, the attributes, the shapes and types of inputs, and the optional outputs that are wanted;
 * inputs' data, output, repeat and seconds are not looked at. Makes nothing on the device. The context must
 * outlive the plan; the reference has no plans. */
TESSERA_API tessera_status tessera_plan_create(tessera_context* context, const tessera_op_desc* desc,
                                               tessera_plan** plan, tessera_error* error);
TESSERA_API void tessera_plan_destroy(tessera_plan* plan); /* bindings of it stay */

/* A range of a buffer that kernels use. What is bound may be of any size from `bytes` on, at an offset that
 * is a multiple of `alignment`, in a buffer made with VK_BUFFER_USAGE_STORAGE_BUFFER_BIT. Ranges that are
 * written may not overlap others. */
typedef struct tessera_plan_tensor {
  size_t size;
  const char* name;
  /* Elements on the device, row-major without gaps unless it is packed. Types and shapes may differ from the
   * op's: F32 for an F16 or BF16 that the op would convert on the host, U32 for I64. */
  const char* type; /* "" of several tensors in one */
  const uint64_t* shape;
  uint32_t dims;
  uint64_t bytes;
  uint64_t alignment;
  int reads, writes; /* nonzero: kernels may; elements that an append does not write stay as they are */
  int packed;        /* nonzero: laid out as only tessera_plan_pack knows */
  int optional;      /* nonzero: made of attributes alone. Without a binding of the host's Tessera has it */
  /* Inputs of the op that tessera_plan_pack makes the content of. */
  const char* const* inputs;
  uint32_t input_count;
  const char* output; /* the op's output that it holds afterwards; "": none */
} tessera_plan_tensor;

/* One dispatch. */
typedef struct tessera_op_kernel {
  size_t size;
  const char* name;
  uint32_t groups[3]; /* workgroups */
  double flops;       /* arithmetic that the result needs */
  double bytes;       /* traffic that cannot be avoided */
  /* Of tiled attention: rows (of all heads that share a KV head) and keys of a tile of scores; how many tiles
   * it goes through, and how many all rows by all keys would be. From the shape alone: nonpad_kv_seqlen,
   * documents and dense masks can only lower the first. All 0 of other kernels. */
  uint32_t tile_rows, tile_keys;
  double tiles, all_tiles;
} tessera_op_kernel;

typedef struct tessera_plan_totals {
  size_t size;
  uint64_t scratch_bytes; /* device memory beside the tensors, of each slot; may be 0 */
  uint64_t scratch_alignment;
  uint64_t tensor_bytes; /* of all tensors */
  double flops, bytes;   /* of all kernels */
} tessera_plan_totals;

/* Strings and arrays live as long as the plan, those of `kernel` and `refused` during the call. Any callback
 * may be NULL. */
typedef struct tessera_plan_sink {
  size_t size;
  void* user;
  void (*output)(void* user, const tessera_tensor* tensor); /* of the op, as tessera_op_run gives them */
  void (*tensor)(void* user, const tessera_plan_tensor* tensor);
  void (*kernel)(void* user, const tessera_op_kernel* kernel); /* each dispatch, in order */
  /* A faster tier, or one that was measured (rates of the context), and why it was not chosen. */
  void (*refused)(void* user, const char* tier, const char* reason);
  void (*total)(void* user, const tessera_plan_totals* totals);
} tessera_plan_sink;
TESSERA_API tessera_status tessera_plan_describe(const tessera_plan* plan, const tessera_plan_sink* sink,
                                                 tessera_error* error);

/* Writes what `tensor` holds before the op runs, `bytes` of it, to `out`, from the inputs that it is made of:
 * tensors as tessera_op_run takes them, with the plan's names, types and shapes. Runs on the CPU, touches no
 * device. invalid_argument names an input that is missing or an index out of range. */
TESSERA_API tessera_status tessera_plan_pack(const tessera_plan* plan, const char* tensor,
                                             const tessera_tensor* inputs, uint32_t input_count, void* out,
                                             uint64_t bytes, tessera_error* error);

typedef struct tessera_bound_range { /* an array steps by its first element's size */
  size_t size;
  const char* name;         /* of a tensor of the plan; NULL of scratch */
  tessera_vk_buffer buffer; /* of the context's device; kept by descriptor sets alone */
  uint64_t offset;
  uint64_t bytes; /* 0: as many as the plan says */
} tessera_bound_range;

/* One set of memory, for example of a frame in flight. */
typedef struct tessera_slot { /* an array steps by its first element's size */
  size_t size;
  const tessera_bound_range* tensors; /* every tensor of the plan that is not optional */
  uint32_t tensor_count;
  const tessera_bound_range* scratch; /* NULL: Tessera allocates scratch_bytes for the slot */
} tessera_slot;

typedef struct tessera_bind_desc {
  size_t size;
  const tessera_slot* slots;
  uint32_t slot_count;
} tessera_bind_desc;

/* Makes the pipelines that the context does not have yet, descriptor sets and small buffers; submits nothing.
 * The context must outlive the binding; the binding must outlive every execution of what was recorded with
 * it. */
TESSERA_API tessera_status tessera_bind(const tessera_plan* plan, const tessera_bind_desc* desc,
                                        tessera_binding** binding, tessera_error* error);
/* No command buffer that it was recorded into may be pending or submitted again, and the buffers that it was
 * bound to may be gone by then. */
TESSERA_API void tessera_binding_destroy(tessera_binding* binding);

typedef struct tessera_record_desc {
  size_t size;
  struct VkCommandBuffer_T* command_buffer; /* being recorded, primary or secondary, outside a render pass */
  uint32_t slot;
  /* The op reads and writes its ranges in VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT with
   * VK_ACCESS_SHADER_READ_BIT and VK_ACCESS_SHADER_WRITE_BIT, from its first command to its last; what orders
   * it among the host's own work is the host's. Where before_stages is not 0, a barrier from those
   * VkPipelineStageFlags and the VkAccessFlags before_access comes first, and from the writes of whatever
   * computed earlier on the queue: of earlier recordings too. Where after_stages is not 0, one to
   * after_stages and after_access comes last. Both are global memory barriers. Bits that
   * VkPipelineStageFlags2 and VkAccessFlags2 alone have are refused. */
  uint64_t before_stages, before_access;
  uint64_t after_stages, after_access;
} tessera_record_desc;

/* vkCmd* calls into the command buffer, nothing else: no allocation on the host or the device, no submission,
 * no wait, no descriptor update. Of its state it changes the compute bind point's pipeline and descriptor set
 * 0, and disturbs the higher compute sets. Push constants of all stages are undefined afterwards: push them
 * again before the next draw, trace or dispatch. A binding may be recorded by several threads at once; the
 * command buffer and its pool are the host's to synchronise. */
TESSERA_API tessera_status tessera_record(const tessera_binding* binding, const tessera_record_desc* desc,
                                          tessera_error* error);

#ifdef __cplusplus
}
#endif
#endif
