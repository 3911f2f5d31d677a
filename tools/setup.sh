#!/usr/bin/env bash
# Installs what building and testing Tessera needs and is missing (Debian and Ubuntu, as root or with sudo); on another
# system names it. Sourced by run.sh and test.sh; everything it prints goes to standard error.
# setup_packages build|test

tessera_packages_build=(g++ cmake ninja-build pkg-config glslang-tools spirv-tools libvulkan-dev libvulkan1
  mesa-vulkan-drivers libcli11-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev)
tessera_packages_test=(libgtest-dev libgmock-dev vulkan-validationlayers python3)

setup_packages() {
  local wanted=("${tessera_packages_build[@]}") missing=() package
  if [[ $1 == test ]]; then wanted+=("${tessera_packages_test[@]}"); fi
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    setup_check_commands && return 0
    echo "This is no Debian or Ubuntu. Install, under your system's names: ${wanted[*]}" >&2
    return 1
  fi
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local sudo=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
      return 1
    fi
    sudo=(sudo)
  fi
  echo "Installing: ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -qq >&2 || true  # an old list may do
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Elsewhere: enough to try, when the programs are there; CMake names a missing library.
setup_check_commands() {
  local command absent=()
  for command in c++ cmake ninja pkg-config glslangValidator; do
    command -v "$command" >/dev/null || absent+=("$command")
  done
  ((${#absent[@]} == 0)) && return 0
  echo "Missing programs: ${absent[*]}" >&2
  return 1
}

# setup_build PRESET [cmake options]: configures when the options are new, builds what is stale.
setup_build() {
  local preset=$1
  shift
  cmake --preset "$preset" "$@" >&2 && cmake --build --preset "$preset" >&2
}
