// What every program's command line shares: how help looks, which model there is without one.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tessera/tessera.hpp"

namespace tool {

// Options as a person reads them: a name, what it takes, what it does.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_usage(const CLI::App* app, std::string name) const override;
};

// -m; the bundled model when it is not given.
void add_model_option(CLI::App& app, std::string& path);
tessera::Expected<tessera::Model> load_model(const tessera::Context& context, const std::string& path);

}  // namespace tool
