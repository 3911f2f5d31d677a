# What run.sh, test.sh and .ci/run have in common: sourced, in the repository's root. Installs the packages that are
# missing (Debian and Ubuntu, as root or with sudo), elsewhere names them, and builds. All it prints goes to standard
# error.

setup_packages_libraries=(libvulkan-dev libcli11-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev zlib1g-dev)
setup_packages_test_libraries=(libgtest-dev libgmock-dev)
setup_packages_pictures=(libpng-dev libfreetype-dev fonts-dejavu-core)
setup_packages_glsl=(glslang-dev)
setup_packages_build=(g++ cmake ninja-build pkg-config glslang-tools spirv-tools libvulkan1 mesa-vulkan-drivers
  "${setup_packages_libraries[@]}")
setup_packages_test=("${setup_packages_build[@]}" "${setup_packages_test_libraries[@]}" "${setup_packages_pictures[@]}"
  "${setup_packages_glsl[@]}" python3)
setup_packages_ci=("${setup_packages_test[@]}" ccache clang clang-tidy-14 clang-format-14 libclang-rt-14-dev
  vulkan-validationlayers g++-aarch64-linux-gnu qemu-user)

# setup_packages build|test|ci: no network and no root when nothing is missing.
setup_packages() {
  local -n wanted=setup_packages_$1
  local installed missing=() package
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    setup_other_system "${wanted[@]}"
    return
  fi
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
  for package in "${wanted[@]}"; do
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
  done
  if ((${#missing[@]})); then setup_install "${missing[@]}"; fi
}

setup_install() {
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Missing packages, and neither root nor sudo to install them: $*" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing: $*" >&2
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
  "${apt[@]}" update >&2 || echo "apt-get update failed; trying with the old package lists" >&2
  if ! "${apt[@]}" install -y --no-install-recommends "$@" >&2; then
    echo "apt-get could not install: $*" >&2
    echo "(On Ubuntu they are in the component 'universe'.)" >&2
    return 1
  fi
}

# Not Debian: goes on when the programs are there (CMake names a missing library), else names what is wanted.
setup_other_system() {
  local program absent=()
  for program in c++ cmake ninja pkg-config glslangValidator; do
    command -v "$program" >/dev/null || absent+=("$program")
  done
  if ((${#absent[@]} == 0)); then return 0; fi
  echo "Missing programs: ${absent[*]}" >&2
  echo "This is no Debian or Ubuntu system. Install, under your system's names: $*" >&2
  return 1
}

# setup_build PRESET [-DNAME=VALUE...]: configures when that was not done with these values, builds what is stale
# (ninja itself sees changed CMake files).
setup_build() {
  local preset=$1 folder=build cache option
  shift
  case $preset in asan-ubsan) folder=build-asan ;; fuzz | tsan | aarch64) folder=build-$preset ;; esac
  cache=$folder/CMakeCache.txt
  local configure=()
  if [[ ! -f $folder/build.ninja ]]; then
    configure=(cmake --preset "$preset")
  elif ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache"; then
    configure=(cmake --fresh --preset "$preset")  # the tree was moved
  else
    for option; do
      option=${option#-D}
      grep -qE "^${option%%=*}:[A-Z]+=${option#*=}\$" "$cache" || configure=(cmake --preset "$preset")
    done
  fi
  if ((${#configure[@]})); then
    setup_check_cmake && "${configure[@]}" "$@" >&2 || return
  fi
  cmake --build --preset "$preset" >&2
}

setup_check_cmake() {
  local version
  version=$(cmake --version | sed -n '1s/.* //p')
  if [[ $(printf '%s\n' 3.25 "$version" | sort -V | head -n 1) != 3.25 ]]; then
    echo "CMake 3.25 or newer is needed (Debian 12, Ubuntu 24.04 or newer have it); this is $version" >&2
    return 1
  fi
}

# One at a time works on this tree; the lock ends with the program or with setup_unlock.
setup_lock() {
  if ! command -v flock >/dev/null; then return 0; fi
  exec {setup_lock_fd}<tools/setup.sh
  if ! flock -n "$setup_lock_fd"; then
    echo "Waiting for another build of this tree..." >&2
    flock "$setup_lock_fd"
  fi
}
setup_unlock() {
  if [[ -n ${setup_lock_fd:-} ]]; then exec {setup_lock_fd}<&-; fi
}
