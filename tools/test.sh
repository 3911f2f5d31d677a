#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test on the best device found:
#   ./tools/test.sh [options of ctest, for example -R schedule]
# TESSERA_MODELS, when set, names a folder of real models; the tests on them are skipped without it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source tools/setup.sh

setup_lock
setup_packages test
setup_build default -DTESSERA_TESTS=ON
setup_unlock
ctest --preset default -j 2 "$@"
