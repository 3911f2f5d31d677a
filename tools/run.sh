#!/usr/bin/env bash
# Installs what is missing, builds, and continues a text with the bundled model on the best device found:
#   ./tools/run.sh "Once upon a time" [options of `tessera generate`]
# Standard output has the text alone.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source tools/setup.sh

setup_packages build
# Tests need more packages; a build folder that has them keeps them.
if [[ ! -f build/CMakeCache.txt ]]; then
  setup_build default -DTESSERA_TESTS=OFF
else
  setup_build default
fi
exec build/tessera generate "$@"
