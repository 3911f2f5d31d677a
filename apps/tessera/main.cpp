#include <cstdio>

#include "common.h"

int main(int argc, char** argv) {
  CLI::App app{
      "Transformer models on any Vulkan GPU, checked against a CPU reference.\n\n"
      "  tessera generate \"Once upon a time\"          the bundled model continues a text\n"
      "  tessera generate -m model.gguf --temp 0.8    a model of your own, prompt from standard input\n"
      "  tessera devices                              what can run here, and why not\n"
      "  tessera verify -m model.gguf                 is this GPU right? op by op",
      "tessera"};
  app.set_version_flag("--version", "tessera " TESSERA_VERSION, "Print the version");
  app.require_subcommand(1);
  app.fallthrough(false);
  app.formatter(std::make_shared<tool::HelpFormatter>());
  app.set_help_flag("-h,--help", "Print this help");
  int status = 0;
  tool::add_generate(app, status);
  tool::add_translate(app, status);
  tool::add_attend(app, status);
  tool::add_devices(app, status);
  tool::add_verify(app, status);
  tool::add_shaders(app, status);
  tool::add_bench(app, status);
  tool::add_inspect(app, status);
  tool::add_tokenize(app, status);
  tool::add_convert(app, status);
  tool::add_op(app, status);
  app.set_help_all_flag("--help-all", "Print the help of every command");
  tool::catch_interrupts();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::fprintf(stderr, "tessera: %s (see --help)\n", e.what());
    return tool::kUsage;
  } catch (const std::exception& e) {
    return tool::fail(e.what());
  }
  // What was printed must have arrived: a full disk is a failure.
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && status == 0)
    return tool::fail("standard output cannot be written");
  return status;
}
