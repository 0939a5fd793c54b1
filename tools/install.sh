#!/usr/bin/env bash
# Usage: tools/install.sh VENV PYTHON DETECTRON2 EXTENT     (called by `make install`)
#
# Makes the virtual environment VENV with PYTHON and installs into it the locked packages of EXTENT
# (runtime, or dev: what the tests need too), torch, this project in editable mode, and Detectron2
# as DETECTRON2 says:
#   pip     the hash-pinned pure-Python wheel (requirements/detectron2.txt); no compiler needed
#   git     upstream's repository at a commit known to work
#   skip    whichever Detectron2 the environment has
#   FOLDER  a copy of upstream's source
# Empty means the choice of the last run in VENV, pip for a new one. What was dev stays dev.
# A second run with the same inputs only prints what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 python=$2
stamp=$venv/.crack_installed      # DETECTRON2, EXTENT, and a checksum of what was installed from
detectron2=${3:-$(head -n 1 "$stamp" 2>/dev/null || echo pip)}
extent=${4:-runtime}
! grep -qsx dev "$stamp" || extent=dev
upstream=https://github.com/facebookresearch/detectron2
commit=02b5c4e295e990042a714712c21dc79b731e8833
py=$venv/bin/python

fail() { echo "error: $*" >&2; exit 1; }

fingerprint() {
    printf '%s\n' "$detectron2" "$extent"
    { echo "$PWD"; cat setup.cfg pyproject.toml requirements/*.txt tools/install.sh; } | cksum
}

purelib() { "$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

make_venv() {
    [ -x "$py" ] && return
    command -v "$python" >/dev/null || fail "there is no $python; say PYTHON=... (3.10 to 3.13)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$python is older than 3.10; say PYTHON=... (3.10 to 3.13)"
    "$python" -m venv "$venv"
}

# Files that list all that they need, each with its hash: nothing else is fetched.
install_locked() { pip_install --no-deps --require-hashes -r "requirements/$1.txt"; }

pip_install() {
    "$py" -m pip install --no-build-isolation "$@" | sed '/^Requirement already satisfied/d'
}

install_packages() {
    install_locked build          # builds the few packages that come as source
    install_locked "$extent"
    # shellcheck disable=SC2046   # two words: torch>=..., torchvision>=...
    pip_install $(sed -nE 's/^ +(torch(vision)?>=.*)/\1/p' setup.cfg)
    pip_install --no-deps -e .
}

has_wheel() {
    "$py" -c 'from importlib.metadata import version as v; assert v("sal-detectron2") == "0.7.2"' \
        2>/dev/null
}

install_wheel() {
    [ ! -L "$(purelib)/detectron2" ] || rm "$(purelib)/detectron2"
    has_wheel && return
    "$py" -m pip uninstall -qq --yes detectron2
    # The wheel is tagged for CPython 3.10 though nothing in it depends on that; a target folder
    # lets pip take it on any Python.
    "$py" -m pip install --no-deps --require-hashes -r requirements/detectron2.txt \
        --target "$(purelib)" --only-binary=:all: \
        --python-version 3.10 --implementation cp --abi none --platform any
}

link_source() {  # Detectron2 runs from its source without its optional C++ extension
    "$py" -m pip uninstall -qq --yes sal-detectron2 detectron2
    ln -sfn "$(cd "$1" && pwd)/detectron2" "$(purelib)/detectron2"
}

clone_upstream() {
    local source=$venv/src/detectron2
    [ -d "$source" ] || git clone --quiet "$upstream" "$source"
    git -C "$source" checkout --quiet "$commit"
    link_source "$source"
}

install_detectron2() {
    case $detectron2 in
        pip) install_wheel ;;
        git) clone_upstream ;;
        skip) ;;
        *) link_source "$detectron2" ;;
    esac
}

report() {  # fails where there is no Detectron2
    "$py" -W ignore - <<'PYTHON' || fail "Detectron2 cannot be imported; leave out DETECTRON2=skip"
import sys

import detectron2
import torch

device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
print(f"Python {sys.version.split()[0]}, Detectron2 {detectron2.__version__} ({detectron2.__path__[0]})")
print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads")
PYTHON
}

case $detectron2 in
    pip | git | skip) ;;
    *) [ -f "$detectron2/detectron2/__init__.py" ] ||
        fail "DETECTRON2 is pip, git, skip or a folder with Detectron2's source, not $detectron2" ;;
esac
case $extent in
    runtime | dev) ;;
    *) fail "EXTENT is runtime or dev, not $extent" ;;
esac
make_venv
if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ]; then
    rm -f "$stamp"
    install_packages
    install_detectron2
    report
    fingerprint > "$stamp"
else
    report
fi
