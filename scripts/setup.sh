#!/usr/bin/env bash
# Installs what Sheaf is built and tested with, from Debian 12's packages.
#
#   scripts/setup.sh                 compiler, libraries, test tools
#   scripts/setup.sh --with docker,fuzz,compare
#                                    also: docker  a container engine, to run docker-compose.yml and its test
#                                          fuzz    clang, for the libFuzzer targets (preset "fuzz")
#                                          compare fastText, to compare against
#   scripts/setup.sh --runtime       only the shared libraries that the executables load (what an image needs)
#   scripts/setup.sh --list [...]    print the packages, one a line, and install nothing
#
# Run it as often as you like: when everything is there it prints one line and needs no network.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache pkg-config git python3 xz-utils zstd shellcheck
  protobuf-compiler libprotobuf-dev
  libzmq3-dev cppzmq-dev
  libgoogle-glog-dev libgflags-dev
  libeigen3-dev libxxhash-dev nlohmann-json3-dev
  librocksdb-dev libcurl4-openssl-dev
  zlib1g-dev libzstd-dev liblzma-dev
  libgtest-dev libgmock-dev
  iptables iproute2
  etcd-server
)
# The sonames that the packages above link to in Debian 12.
runtime_packages=(
  libprotobuf32 libzmq5 libgoogle-glog0v6 libgflags2.2 libxxhash0 librocksdb7.8 libcurl4 zlib1g libzstd1 liblzma5
)
docker_packages=(docker.io docker-compose debootstrap iptables)
fuzz_packages=(clang-16 libclang-rt-16-dev)
compare_packages=(fasttext)

die() { echo "setup: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

base=build list=no extras=""
while (($#)); do
  case $1 in
    --with) (($# > 1)) || die "--with needs a list: docker, fuzz, compare"; extras+=",$2"; shift ;;
    --with=*) extras+=",${1#--with=}" ;;
    --runtime) base=runtime ;;
    --list) list=yes ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see scripts/setup.sh --help" ;;
  esac
  shift
done

packages=()
if [[ $base == runtime ]]; then packages+=("${runtime_packages[@]}"); else packages+=("${build_packages[@]}"); fi
IFS=, read -ra wanted <<<"$extras"
for extra in ${wanted[@]+"${wanted[@]}"}; do
  case $extra in
    "") ;;
    docker) packages+=("${docker_packages[@]}") ;;
    fuzz) packages+=("${fuzz_packages[@]}") ;;
    compare) packages+=("${compare_packages[@]}") ;;
    *) die "--with knows docker, fuzz and compare, not '$extra'" ;;
  esac
done

if [[ $list == yes ]]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "made for Debian 12, and this system has no apt-get. Install the equivalents of these yourself: ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
  # A package can be listed but removed (status config-files): only "installed" counts.
  status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1 || true)
  [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

# shellcheck source=/dev/null
version=$(. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
[[ $version == "debian 12" ]] || echo "setup: this is $version, not debian 12: names of packages may differ" >&2

log=$(mktemp -t sheaf-setup.XXXXXX)
install() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
}
update() { ${as_root[@]+"${as_root[@]}"} apt-get update -q -o DPkg::Lock::Timeout=300; }

echo "setup: installing ${missing[*]}"
if ! { update && install; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  die "apt-get failed; the whole log is $log"
fi
rm -f "$log"
echo "setup: done"
