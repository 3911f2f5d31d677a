#include "demo.h"

#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>

#include "../shared/command_line.h"
#include "../shared/terminal.h"
#include "plot.h"
#include "renderer.h"
#include "timed_queue.h"

namespace demo {
namespace {

constexpr std::size_t kWarmUp = 10;  // frames before a phase that do not count
constexpr VkExtent2D kPlotSize{1280, 720};

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> out;
  out.reserve(texts.size());
  for (const std::string& text : texts) out.push_back(text.c_str());
  return out;
}

std::string formatted(const char* format, auto... values) {
  char text[200];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

class Demo {
 public:
  explicit Demo(const Options& options) : options_(options) {}

  Expected<Done> prepare();
  Expected<Done> with_tessera();
  Expected<Done> without_tessera();
  Expected<Done> pictures();
  Expected<Done> plot();
  Expected<Report> report() {
    if (gpu_->messages() != 0)
      return Failure{TESSERA_INTERNAL, formatted("%u messages of validation layers", gpu_->messages())};
    return std::move(report_);
  }

 private:
  using Draw = std::function<Expected<DrawList>(std::size_t frame)>;
  // Draws frames 0 to options.frames at the fixed rate, after a few that do not count. `seen` gets each
  // frame's time.
  Expected<Done> phase(const char* name, const Draw& draw,
                       const std::function<Expected<Done>(std::size_t, double)>& seen);
  Expected<Done> load();
  Expected<SceneState> next_state(std::size_t frame);
  std::string corner_text() const;
  DrawList scene(const SceneState& state) const { return draw_scene(state, width(), *font_); }
  double time_of(std::size_t frame) const { return static_cast<double>(frame) / options_.fps; }
  float width() const {
    return kViewHeight * static_cast<float>(options_.width) / static_cast<float>(options_.height);
  }
  Expected<Done> save(const std::string& name, const Picture& picture);

  const Options& options_;
  tool::ProgressBar bar_;
  std::optional<Gpu> gpu_;  // these end in the opposite order
  std::optional<TimedQueue> queue_;
  std::optional<Font> font_;
  std::optional<Renderer> renderer_;
  std::optional<tessera::Context> context_;
  std::optional<tessera::Model> model_;
  std::optional<Conversation> conversation_;
  std::vector<SceneState> script_;  // what each frame showed
  std::vector<FrameBar> bars_;      // of frames that have ended
  Report report_;
};

template <typename T>
Expected<Done> keep(std::optional<T>& out, Expected<T> made) {
  if (!made) return made.failure();
  out.emplace(*std::move(made));
  return Done{};
}

Expected<Done> Demo::prepare() {
  std::error_code failed;
  std::filesystem::create_directories(options_.out, failed);
  if (failed) return Failure{TESSERA_IO, "'" + options_.out + "' cannot be made: " + failed.message()};
  const float scale = static_cast<float>(options_.height) / kViewHeight;
  if (auto made = keep(gpu_, Gpu::create(options_.device, pointers(options_.caps))); !made) return made;
  report_.device = gpu_->name();
  if (auto made = keep(queue_, TimedQueue::create(*gpu_)); !made) return made;
  if (auto made = keep(font_, Font::create(options_.font, scale)); !made) return made;
  const VkExtent2D extent{options_.width, options_.height};
  if (auto made = keep(renderer_, Renderer::create(*gpu_, extent, font_->atlas())); !made) return made;
  return load();
}

Expected<Done> Demo::load() {
  tessera_host_device host = gpu_->host_device();
  queue_->lend(host);
  const std::vector<const char*> caps = pointers(options_.caps);
  auto desc = tessera::init<tessera_context_desc>();
  desc.host = &host;
  desc.get_instance_proc_addr = reinterpret_cast<void*>(vkGetInstanceProcAddr);
  desc.caps = caps.data();
  desc.cap_count = static_cast<std::uint32_t>(caps.size());
  desc.log = [](void*, tessera_log_level level, const char* text) {
    if (level >= TESSERA_LOG_WARNING) std::fprintf(stderr, "frame_demo: %s\n", text);
  };
  if (auto made = keep(context_, tessera::Context::create(desc)); !made) return made;
  if (auto made = keep(model_, tool::load_model(*context_, options_.model)); !made) return made;
  std::vector<Speech> voices;
  for (std::size_t i = 0; i < kCast; ++i) {
    bar_.show("loading", i, kCast);
    auto voice = Speech::create(*model_);
    if (!voice) return voice.failure();
    if (auto rehearsed = voice->rehearse(Conversation::rehearsal(i), options_.budget_us); !rehearsed)
      return rehearsed;
    voices.push_back(*std::move(voice));
  }
  conversation_.emplace(std::array{std::move(voices[0]), std::move(voices[1]), std::move(voices[2])},
                        options_.seed);
  return Done{};
}

Expected<Done> Demo::phase(const char* name, const Draw& draw,
                           const std::function<Expected<Done>(std::size_t, double)>& seen) {
  const auto interval =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / options_.fps));
  const auto collect = [&]() -> Expected<Done> {
    for (const FinishedFrame& frame : renderer_->take_finished())
      if (frame.id >= kWarmUp)
        if (auto taken = seen(frame.id - kWarmUp, milliseconds(frame.took)); !taken) return taken;
    return Done{};
  };
  Clock::time_point tick = Clock::now();
  for (std::size_t i = 0; i < kWarmUp + options_.frames; ++i) {
    if (tool::interrupted()) return Failure{TESSERA_CANCELLED, "interrupted"};
    if (auto waited = renderer_->wait_until(tick); !waited) return waited;
    if (auto collected = collect(); !collected) return collected;
    const Clock::time_point begun = Clock::now();
    auto list = i < kWarmUp ? scene({}) : draw(i - kWarmUp);
    if (!list) return list.failure();
    if (auto sent = renderer_->submit(*list, i, begun); !sent) return sent;
    tick = std::max(tick + interval, begun);
    bar_.show(name, i + 1, kWarmUp + options_.frames);
  }
  if (auto ended = renderer_->drain(); !ended) return ended;
  return collect();
}

std::string Demo::corner_text() const {
  const std::size_t seen = bars_.size();
  if (seen == 0) return {};
  const FrameBar& last = bars_.back();
  const double seconds = time_of(seen);
  return formatted("frame %.1f ms    Tessera %.2f of %.2f ms    %.1f tokens/s",
                   static_cast<double>(last.frame), static_cast<double>(last.tessera),
                   options_.budget_us * 1e-3, static_cast<double>(conversation_->tokens()) / seconds);
}

Expected<SceneState> Demo::next_state(std::size_t frame) {
  const double time = time_of(frame);
  if (auto stepped = conversation_->step(time, options_.budget_us); !stepped) return stepped.failure();
  SceneState state;
  state.time = time;
  state.cast = conversation_->cast(time);
  state.corner.full = static_cast<float>(1000 / options_.fps);
  state.corner.recent.assign(
      bars_.end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(bars_.size(), 60)), bars_.end());
  state.corner.text = corner_text();
  return state;
}

Expected<Done> Demo::with_tessera() {
  Clock::time_point begun;
  const auto draw = [&](std::size_t frame) -> Expected<DrawList> {
    if (frame == 0) begun = Clock::now();
    queue_->begin_frame(frame);
    auto state = next_state(frame);
    if (!state) return state.failure();
    script_.push_back(*std::move(state));
    return scene(script_[frame]);
  };
  const auto seen = [&](std::size_t frame, double took) -> Expected<Done> {
    report_.with.push_back(took);
    auto share = queue_->take(frame);
    if (!share) return share.failure();
    if (queue_->measures()) report_.tessera.push_back(*share);
    bars_.push_back({static_cast<float>(took), static_cast<float>(*share)});
    return Done{};
  };
  const std::size_t before = queue_->submits();
  if (auto drawn = phase("speaking", draw, seen); !drawn) return drawn;
  report_.submits = queue_->submits() - before;
  report_.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  report_.tokens = conversation_->tokens();
  report_.spoken = conversation_->spoken();
  return Done{};
}

Expected<Done> Demo::without_tessera() {
  const auto draw = [&](std::size_t frame) -> Expected<DrawList> { return scene(script_[frame]); };
  const auto seen = [&](std::size_t, double took) -> Expected<Done> {
    report_.without.push_back(took);
    return Done{};
  };
  return phase("silent", draw, seen);
}

Expected<Done> Demo::save(const std::string& name, const Picture& picture) {
  const std::string path = (std::filesystem::path(options_.out) / name).string();
  report_.files.push_back(path);
  return tool::write_png(path, picture);
}

Expected<Done> Demo::pictures() {
  for (std::size_t i = 1; i <= options_.pictures; ++i) {
    const std::size_t frame = i * options_.frames / options_.pictures - 1;
    auto picture = renderer_->picture(scene(script_[frame]));
    if (!picture) return picture.failure();
    if (auto saved = save(formatted("frame_%05zu.png", frame), *picture); !saved) return saved;
    bar_.show("pictures", i, options_.pictures);
  }
  return Done{};
}

Expected<Done> Demo::plot() {
  const float scale = static_cast<float>(kPlotSize.height) / kViewHeight;
  auto font = Font::create(options_.font, scale);
  if (!font) return font.failure();
  auto renderer = Renderer::create(*gpu_, kPlotSize, font->atlas());
  if (!renderer) return renderer.failure();
  PlotData data;
  data.title = "Frame time with and without a language model in the frame";
  data.subtitle = formatted("%s, %u x %u at %g frames/s, budget %g \u00b5s a frame, %zu tokens in %zu frames",
                            report_.device.c_str(), options_.width, options_.height, options_.fps,
                            options_.budget_us, report_.tokens, options_.frames);
  data.interval = 1000 / options_.fps;
  data.budget = options_.budget_us * 1e-3;
  data.without = report_.without;
  data.with = report_.with;
  data.tessera = report_.tessera;
  auto picture = renderer->picture(draw_plot(data, kViewHeight * 16 / 9, *font));
  if (!picture) return picture.failure();
  return save("frame_times.png", *picture);
}

}  // namespace

Expected<Report> run(const Options& options) {
  Demo demo(options);
  for (const auto step :
       {&Demo::prepare, &Demo::with_tessera, &Demo::without_tessera, &Demo::pictures, &Demo::plot})
    if (auto done = (demo.*step)(); !done) return done.failure();
  return demo.report();
}

}  // namespace demo
