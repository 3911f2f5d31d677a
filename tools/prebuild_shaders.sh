#!/bin/sh
# Compiles the modules that older glslangs cannot (they name a feature in their catalogue) into prebuilt/ beside
# the catalogue. Needs cmake and a glslang that knows the features, better a spirv-val too.
#   tools/prebuild_shaders.sh [--check] [--glslang PATH] [CATALOGUE...]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mode="-DGLSLANG=glslangValidator"
while [ $# -gt 0 ]; do
  case $1 in
    --check) mode="-DCHECK=ON" && shift ;;
    --glslang) mode="-DGLSLANG=$2" && shift 2 ;;
    -*) echo "unknown option $1" >&2 && exit 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || set -- "$root/shaders/kernels.inc"
for catalogue; do
  cmake "-DCATALOGUE=$catalogue" "$mode" -P "$root/cmake/prebuild_shaders.cmake"
done
