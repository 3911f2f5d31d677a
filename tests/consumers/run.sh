#!/usr/bin/env bash
# Installs a build folder into a temporary place, compiles each public header alone, and builds two hosts (C99, C++20)
# with find_package and with pkg-config; then the same with a static library that a host builds by add_subdirectory.
#   tests/consumers/run.sh [BUILD_FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
build=${1:-$here/../../build}
model=$here/../data/qwen2_random.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect_same() { # every host prints the same token
  local id
  id=$("$@" "$model")
  [[ ${token:=$id} == "$id" ]] || { echo "$1 prints $id, another host $token" >&2; exit 1; }
  echo "  $(basename "$1"): token $id"
}
hosts() {
  expect_same "$1/embed_c"; expect_same "$1/embed_cpp"
  if [[ -x $1/embed_glsl ]]; then echo "  embed_glsl: $("$1/embed_glsl")"; fi  # where glslang's library is there
}

headers_alone() { # prefix
  local header strict=(-pedantic-errors -Wall -Wextra -Werror -fsyntax-only)
  for header in "$1"/include/tessera/*.h; do
    cc -std=c99 "${strict[@]}" -x c "$header"
    c++ -std=c++98 "${strict[@]}" -x c++ "$header"
  done
  c++ -std=c++98 "${strict[@]}" -I "$1/include" "$here/init.cpp"
  for header in "$1"/include/tessera/*.hpp; do
    c++ -std=c++20 -fno-exceptions -fno-rtti "${strict[@]}" -x c++ "$header"
  done
}

with_package() { # prefix folder
  cmake -S "$here/package" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$1" >"$2.log" 2>&1 &&
    cmake --build "$2" >>"$2.log" 2>&1 || { cat "$2.log" >&2; exit 1; }
  hosts "$2"
}

with_pkg_config() { # prefix folder [--static]
  mkdir -p "$2"
  local flags libs
  export PKG_CONFIG_PATH
  PKG_CONFIG_PATH=$(dirname "$(find "$1" -name tessera.pc)")
  flags=$(pkg-config --cflags tessera)
  libs=$(pkg-config ${3:-} --libs tessera)
  # shellcheck disable=SC2086
  cc -std=c99 -pedantic-errors -Wall -Wextra -Werror $flags "$here/embed.c" -o "$2/embed_c" $libs
  # shellcheck disable=SC2086
  c++ -std=c++20 -fno-exceptions -fno-rtti -pedantic-errors -Wall -Wextra -Werror $flags "$here/embed.cpp" -o "$2/embed_cpp" $libs
  if pkg-config --exists tessera_glsl; then
    # shellcheck disable=SC2046
    cc -std=c99 -pedantic-errors -Wall -Wextra -Wno-missing-field-initializers -Werror $(pkg-config --cflags tessera_glsl) \
      "$here/embed_glsl.c" -o "$2/embed_glsl" $(pkg-config ${3:-} --libs tessera_glsl)
  fi
  LD_LIBRARY_PATH=$(pkg-config --variable=libdir tessera) hosts "$2"
}

# Moved after the installation: nothing in it may know its first place.
cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/shared prefix"
echo "each header alone"
headers_alone "$work/shared prefix"
echo "find_package, shared"
with_package "$work/shared prefix" "$work/package"
mv "$work/shared prefix" "$work/shared"
echo "pkg-config, shared"
with_pkg_config "$work/shared" "$work/pkg-config"
echo "the installed tool"
"$work/shared/bin/tessera" --version

echo "add_subdirectory, static"  # without optimisation: half the time to compile
cmake -S "$here/subdirectory" -B "$work/subdirectory" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 \
  -DBUILD_SHARED_LIBS=OFF -DTESSERA_INSTALL=ON >"$work/subdirectory.log" 2>&1 &&
  cmake --build "$work/subdirectory" >>"$work/subdirectory.log" 2>&1 ||
  { tail -30 "$work/subdirectory.log" >&2; exit 1; }
hosts "$work/subdirectory"
cmake --install "$work/subdirectory" --prefix "$work/static" >/dev/null
echo "find_package, static"
with_package "$work/static" "$work/package-static"
echo "pkg-config, static"
with_pkg_config "$work/static" "$work/pkg-config-static" --static
