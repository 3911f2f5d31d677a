#!/usr/bin/env bash
# The libraries that Tessera and its tests need, of another architecture of this Debian, unpacked in a folder: a value
# for CMAKE_FIND_ROOT_PATH. Needs no root, installs nothing, and leaves the system's package lists alone.
#   tools/sysroot.sh [ARCHITECTURE [FOLDER]]    default: arm64 build-aarch64/sysroot
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source tools/setup.sh
architecture=${1:-arm64}
folder=${2:-build-aarch64/sysroot}
if [[ -d $folder ]]; then exit; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,archives}/partial "$work/root/usr/lib" "$(dirname "$folder")"
ln -s usr/lib "$work/root/lib"

apt=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture" -o "Dir::State::Lists=$work/lists"
  -o Dir::State::status=/dev/null -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
cd "$work"
apt-get "${apt[@]}" update >&2 || echo "apt-get update failed in part; going on" >&2
wanted=("${setup_packages_libraries[@]}" "${setup_packages_test_libraries[@]}")
# What a package depends on has its shared libraries; those of C are the cross compiler's.
mapfile -t -O "${#wanted[@]}" wanted < <(apt-cache "${apt[@]}" depends --important "${wanted[@]}" |
  sed -n 's/^ *Depends: //p' | grep -vE '^(<|libc6|libstdc|libgcc)' | sort -u)
apt-get "${apt[@]}" download "${wanted[@]}" >&2
for package in *.deb; do dpkg --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C root; done
# An absolute link means the folder, not the system.
while IFS= read -r link; do ln -sfn --relative "root$(readlink "$link")" "$link"; done < <(find root -lname '/*')
cd - >/dev/null
mv "$work/root" "$folder"
