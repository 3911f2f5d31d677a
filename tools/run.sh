#!/usr/bin/env bash
# Installs what is missing, builds, and continues a text with the bundled model on the best device found:
#   ./tools/run.sh "Once upon a time" [options of `tessera generate`]
# Standard output has the text alone.
set -euo pipefail
here=$PWD
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)

cd "$root"
source tools/setup.sh
setup_lock
setup_packages build
if [[ -f build/build.ninja ]]; then
  setup_build default
else
  setup_build default -DTESSERA_TESTS=OFF  # test.sh switches them on
fi
setup_unlock
cd "$here"  # where the paths among the arguments start
exec "$root/build/tessera" generate "$@"
