#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct OpOptions {
  DeviceOptions device;
  std::string name, out;
  std::vector<std::string> in, set, outputs, shapes;
  std::optional<std::string> score, mask;
  uint32_t time = 0;
  bool plan = false, json = false, help = false;
};

using tessera::Tensor;

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

// What tessera_ops says, by op.
struct OpHelp {
  std::string name, summary, equations;
  struct Row {
    std::string name, text;
    Json fields;
  };
  std::vector<Row> inputs, outputs, attributes;
};

std::vector<OpHelp> all_ops() {
  std::vector<OpHelp> ops;
  auto sink = tessera::init<tessera_op_list_sink>();
  sink.user = &ops;
  sink.op = [](void* user, const char* name, const char* summary, const char* equations) {
    static_cast<std::vector<OpHelp>*>(user)->push_back({name, summary, equations, {}, {}, {}});
  };
  sink.tensor = [](void* user, const char* name, const char* types, const char* shape, const char* text,
                   int is_output, int is_optional) {
    OpHelp& op = static_cast<std::vector<OpHelp>*>(user)->back();
    std::string said = std::string(is_optional ? "optional; " : "") + types + "; " + shape;
    if (*text != '\0') said += std::string(". ") + text;
    const Json fields{
        {"name", name}, {"types", types}, {"shape", shape}, {"optional", is_optional != 0}, {"text", text}};
    (is_output ? op.outputs : op.inputs).push_back({name, said, fields});
  };
  sink.attribute = [](void* user, const char* name, const char* kind, const char* fallback,
                      const char* allowed, const char* text) {
    const std::string values = std::string(kind) == "choice" ? allowed : std::string(kind) + " " + allowed;
    const std::string said =
        values + (*fallback != '\0' ? std::string("; default ") + fallback : std::string()) + ". " + text;
    const Json fields{{"name", name}, {"values", values}, {"default", fallback}, {"text", text}};
    static_cast<std::vector<OpHelp>*>(user)->back().attributes.push_back({name, said, fields});
  };
  tessera_ops(&sink, nullptr);
  return ops;
}

// `text` in lines of at most 100 columns, each after the first indented.
void print_wrapped(const std::string& head, const std::string& text, std::size_t indent) {
  constexpr std::size_t kWidth = 100;
  std::string line = head;
  line.resize(std::max(line.size() + 1, indent), ' ');
  std::size_t used = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (used != 0 && line.size() + 1 + (end - begin) > kWidth) {
      std::printf("%s\n", line.c_str());
      line.assign(indent, ' ');
      used = 0;
    }
    if (used != 0) line += ' ';
    line += text.substr(begin, end - begin);
    ++used;
    begin = end + 1;
  }
  std::printf("%s\n", line.c_str());
}

void print_rows(const char* title, const std::vector<OpHelp::Row>& rows) {
  if (rows.empty()) return;
  std::printf("\n%s:\n", title);
  for (const OpHelp::Row& row : rows) print_wrapped("  " + row.name, row.text, 26);
}

Json rows_json(const std::vector<OpHelp::Row>& rows) {
  Json list = Json::array();
  for (const OpHelp::Row& row : rows) list.push_back(row.fields);
  return list;
}

// The table of all ops.
int print_ops() {
  Json all = Json::array();
  for (const OpHelp& op : all_ops())
    all.push_back({{"name", op.name},
                   {"summary", op.summary},
                   {"equations", op.equations},
                   {"inputs", rows_json(op.inputs)},
                   {"outputs", rows_json(op.outputs)},
                   {"attributes", rows_json(op.attributes)}});
  print_json(all);
  return 0;
}

int print_op(const std::string& name) {
  const std::vector<OpHelp> ops = all_ops();
  const auto op = std::ranges::find(ops, name, &OpHelp::name);
  if (op == ops.end()) {
    std::fprintf(stderr, "tessera: there is no op '%s' (see `tessera op --help`)\n", name.c_str());
    return kUsage;
  }
  std::printf("%s: %s\n\n%s\n", op->name.c_str(), op->summary.c_str(), op->equations.c_str());
  print_rows("Inputs", op->inputs);
  print_rows("Outputs (optional ones with --output NAME)", op->outputs);
  print_rows("Attributes (--set NAME=VALUE)", op->attributes);
  return 0;
}

int print_overview(const CLI::App& app) {
  std::printf("%s\nOps:\n", app.help().c_str());
  for (const OpHelp& op : all_ops()) std::printf("  %-22s %s\n", op.name.c_str(), op.summary.c_str());
  std::puts(
      "\n`tessera op NAME --help` prints an op's tensors, shapes, attributes and defaults. Examples:\n"
      "  tessera op attention --in qkv.safetensors --out y.safetensors --set is_causal=1\n"
      "  tessera op softmax --in x.safetensors --out y.safetensors --set axis=0 --device reference\n"
      "  tessera op attention --plan --shape Q=1,8,65536,64 --shape K=1,8,65536,64 \\\n"
      "      --shape V=1,8,65536,64");
  return 0;
}

// NAME=[TYPE:]8,64
bool parse_shape(const std::string& text, Tensor& out) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return false;
  out.name = text.substr(0, equals);
  std::string rest = text.substr(equals + 1);
  out.type = "F32";
  if (const std::size_t colon = rest.find(':'); colon != std::string::npos) {
    out.type = rest.substr(0, colon);
    rest = rest.substr(colon + 1);
  }
  for (std::size_t begin = 0; begin <= rest.size();) {
    const std::size_t end = std::min(rest.find(',', begin), rest.size());
    uint64_t dim = 0;
    const auto [stop, bad] = std::from_chars(rest.data() + begin, rest.data() + end, dim);
    if (bad != std::errc() || stop != rest.data() + end) return false;
    out.shape.push_back(dim);
    begin = end + 1;
  }
  return true;
}

// The text itself, or the content of the file of this name: a function has brackets.
std::string glsl_fault(std::string& text) {
  std::error_code bad;
  if (text.find('(') != std::string::npos && !std::filesystem::is_regular_file(text, bad)) return {};
  const std::string name = "'" + text + "'";
  auto content = read_text(text);
  if (!content) return name + " is no function, and no file that can be read";
  // What comes after a zero byte would not be seen.
  if (content->find('\0') != std::string::npos) return name + " is no text";
  if (content->empty()) return name + " is empty";
  text = *std::move(content);
  return {};
}

class OpRun {
 public:
  explicit OpRun(const OpOptions& options) : options_(options) {}

  int run() {
    for (const std::string& path : options_.in) {
      tessera_error error;
      const auto add = [](void* user, const tessera_tensor* t) {
        static_cast<std::vector<Tensor>*>(user)->push_back(Tensor::of(*t));
      };
      if (tessera_read_tensors(path.c_str(), add, &inputs_, &error) != TESSERA_OK)
        return fail({error.status, error.message});
    }
    for (const std::string& text : options_.shapes) {
      Tensor tensor;
      if (!parse_shape(text, tensor)) return fail("--shape " + text + ": write NAME=8,64 or NAME=F16:8,64");
      inputs_.push_back(std::move(tensor));
    }
    auto context = CachedContext::create(options_.device);
    if (!context) return fail(context.failure());
    tessera::UserGlsl user{options_.score.value_or(""), options_.mask.value_or("")};
    for (const auto& [given, text] : {std::pair(&options_.score, &user.score), {&options_.mask, &user.mask}})
      if (given->has_value())
        if (const std::string fault = glsl_fault(*text); !fault.empty()) return fail(fault);
    tessera::OpDesc desc(options_.name, inputs_, options_.set, options_.outputs, user);
    const int status = options_.plan ? plan(**context, *desc) : execute(**context, *desc);
    if (status == 0) context->save();
    return status;
  }

 private:
  Json outputs_json() const {
    Json list = Json::array();
    for (const Tensor& t : outputs_) list.push_back({{"name", t.name}, {"type", t.type}, {"shape", t.shape}});
    return list;
  }

  int execute(const tessera::Context& context, tessera_op_desc& desc) {
    desc.user = &outputs_;
    desc.output = [](void* user, const tessera_tensor* t) -> void* {
      auto& outputs = *static_cast<std::vector<Tensor>*>(user);
      outputs.push_back(Tensor::of(*t));
      return outputs.back().data.data();
    };
    std::vector<double> seconds(options_.time);
    desc.repeat = options_.time;
    if (!seconds.empty()) desc.seconds = seconds.data();
    tessera_error error;
    if (tessera_op_run(context.get(), &desc, &error) != TESSERA_OK)
      return fail({error.status, error.message});
    if (!options_.out.empty()) {
      std::vector<tessera_tensor> views;
      for (const Tensor& t : outputs_) views.push_back(t.view());
      if (tessera_write_tensors(options_.out.c_str(), views.data(), static_cast<uint32_t>(views.size()),
                                &error) != TESSERA_OK)
        return fail({error.status, error.message});
    }
    if (options_.json) {
      const Json all{{"op", options_.name},
                     {"device", context.device_name()},
                     {"outputs", outputs_json()},
                     {"seconds", seconds}};
      print_json(all);
      return 0;
    }
    for (const Tensor& t : outputs_)
      std::printf("%-18s %-5s %s\n", t.name.c_str(), t.type.c_str(), shape_text(t.shape).c_str());
    if (seconds.empty()) return 0;
    std::ranges::sort(seconds);
    std::printf("%u runs on %s: median %.3f ms, least %.3f ms, most %.3f ms\n", options_.time,
                context.device_name().c_str(), seconds[seconds.size() / 2] * 1e3, seconds.front() * 1e3,
                seconds.back() * 1e3);
    return 0;
  }

  int plan(const tessera::Context& context, const tessera_op_desc& desc) {
    Json all{{"op", options_.name},      {"device", context.device_name()}, {"outputs", Json::array()},
             {"tensors", Json::array()}, {"kernels", Json::array()},        {"refused", Json::array()}};
    auto sink = tessera::init<tessera_plan_sink>();
    sink.user = &all;
    sink.output = [](void* user, const tessera_tensor* t) {
      (*static_cast<Json*>(user))["outputs"].push_back(
          {{"name", t->name},
           {"type", t->type},
           {"shape", std::vector<uint64_t>(t->shape, t->shape + t->dims)}});
    };
    sink.tensor = [](void* user, const tessera_plan_tensor* t) {
      (*static_cast<Json*>(user))["tensors"].push_back(
          {{"name", t->name},
           {"type", t->type},
           {"shape", std::vector<uint64_t>(t->shape, t->shape + t->dims)},
           {"bytes", t->bytes},
           {"access", std::string(t->reads ? "read" : "") + (t->reads && t->writes ? ", " : "") +
                          (t->writes ? "write" : "")},
           {"packed", t->packed != 0},
           {"optional", t->optional != 0},
           {"inputs", std::vector<std::string>(t->inputs, t->inputs + t->input_count)},
           {"output", t->output}});
    };
    sink.kernel = [](void* user, const tessera_op_kernel* k) {
      Json kernel{{"name", k->name},
                  {"groups", {k->groups[0], k->groups[1], k->groups[2]}},
                  {"flops", k->flops},
                  {"bytes", k->bytes}};
      if (k->all_tiles > 0)
        kernel.update(
            {{"tile", {k->tile_rows, k->tile_keys}}, {"tiles", k->tiles}, {"all_tiles", k->all_tiles}});
      (*static_cast<Json*>(user))["kernels"].push_back(kernel);
    };
    sink.refused = [](void* user, const char* tier, const char* reason) {
      (*static_cast<Json*>(user))["refused"].push_back({{"tier", tier}, {"reason", reason}});
    };
    sink.total = [](void* user, const tessera_plan_totals* t) {
      (*static_cast<Json*>(user))
          .update({{"scratch_bytes", t->scratch_bytes},
                   {"tensor_bytes", t->tensor_bytes},
                   {"flops", t->flops},
                   {"bytes", t->bytes}});
    };
    auto made = context.plan(desc);
    if (!made) return fail(made.failure());
    if (const auto described = made->describe(sink); !described) return fail(described.failure());
    if (options_.json)
      print_json(all);
    else
      print_plan(all);
    return 0;
  }

  static void print_plan(const Json& all) {
    for (const Json& t : all["outputs"])
      std::printf("%-18s %-5s %s\n", t["name"].get<std::string>().c_str(),
                  t["type"].get<std::string>().c_str(),
                  shape_text(t["shape"].get<std::vector<uint64_t>>()).c_str());
    for (const Json& t : all["tensors"])
      std::printf("bind %-26s %-5s %s, %s\n", t["name"].get<std::string>().c_str(),
                  t["type"].get<std::string>().c_str(), human_bytes(t["bytes"].get<double>()).c_str(),
                  t["access"].get<std::string>().c_str());
    for (const Json& k : all["kernels"]) {
      std::printf("kernel %-24s groups %s, %.3g flop, %.3g bytes\n", k["name"].get<std::string>().c_str(),
                  k["groups"].dump().c_str(), k["flops"].get<double>(), k["bytes"].get<double>());
      if (k.contains("tile"))
        std::printf("  tiles of %s (rows, keys): %.0f of %.0f\n", k["tile"].dump().c_str(),
                    k["tiles"].get<double>(), k["all_tiles"].get<double>());
    }
    for (const Json& r : all["refused"])
      std::printf("refused %-23s %s\n", r["tier"].get<std::string>().c_str(),
                  r["reason"].get<std::string>().c_str());
    std::printf("scratch %s, tensors %s, %.4g flop, %.4g bytes of traffic\n",
                human_bytes(all["scratch_bytes"].get<double>()).c_str(),
                human_bytes(all["tensor_bytes"].get<double>()).c_str(), all["flops"].get<double>(),
                all["bytes"].get<double>());
  }

  const OpOptions& options_;
  std::vector<Tensor> inputs_, outputs_;
};

int run(const CLI::App& app, const OpOptions& options) {
  if (options.help && options.json) return print_ops();
  if (options.help) return options.name.empty() ? print_overview(app) : print_op(options.name);
  const auto misuse = [](const char* what) {
    std::fprintf(stderr, "tessera: %s (see --help)\n", what);
    return kUsage;
  };
  if (options.name.empty()) return misuse("op needs the name of an op");
  if (!options.plan && !options.shapes.empty()) return misuse("--shape describes tensors for --plan");
  return OpRun(options).run();
}

}  // namespace

void add_op(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("op", "Run one operation on the tensors of a safetensors file");
  auto options = std::make_shared<OpOptions>();
  sub->set_help_flag();
  sub->add_flag("-h,--help", options->help,
                "Print the ops, or an op's tensors and attributes; with --json all of them");
  sub->add_option("name", options->name, "The op")->type_name("NAME");
  sub->add_option("--in", options->in, "Input tensors by name (safetensors or GGUF); may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  sub->add_option("--out", options->out, "Where the outputs go (safetensors)")->type_name("FILE");
  sub->add_option("--set", options->set, "An attribute; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  sub->add_option("--output", options->outputs, "An optional output that is wanted too; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
  sub->add_option("--shape", options->shapes, "For --plan: an input by its shape and type (F32 without one)")
      ->type_name("NAME=[TYPE:]N,N,..")
      ->allow_extra_args(false);
#ifdef TESSERA_GLSL
  sub->add_option("--score", options->score,
                  "Of attention: float score(float s, uint b, uint h, uint q, uint k) in GLSL")
      ->type_name("FILE|TEXT");
  sub->add_option("--mask", options->mask, "Of attention: bool mask(uint b, uint h, uint q, uint k) in GLSL")
      ->type_name("FILE|TEXT");
#endif
  sub->add_flag("--plan", options->plan, "Kernels, scratch memory, arithmetic and traffic; nothing runs");
  sub->add_option("--time", options->time, "Run it N times and print the device's times")
      ->check(CLI::Range(1u, 1000000u))
      ->type_name("N");
  sub->add_flag("--json", options->json, "One JSON object");
  add_device_options(*sub, options->device);
  sub->callback([=, &status] { status = run(*sub, *options); });
}

}  // namespace tool
