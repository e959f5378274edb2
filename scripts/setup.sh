#!/usr/bin/env bash
# Makes .venv and installs everything the demo, the tests and the checks need. Safe to run again: it stops at
# once when nothing has changed since the last time.
#
#   PYTHON=python3.12 scripts/setup.sh     use this interpreter (3.11 or newer)
set -euo pipefail
cd "$(dirname "$0")/.."

# What Qt 6, software OpenGL and the virtual display need on Debian 12/13 and Ubuntu 22.04/24.04.
system_packages=(
    xvfb xauth libgl1 libglx-mesa0 libgl1-mesa-dri libegl1 libopengl0 libdbus-1-3 libfontconfig1 libglib2.0-0
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render-util0 libxcb-shape0 libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1
)

say() { printf '%s\n' "$@" >&2; }

stop() {
    say "$@"
    exit 1
}

# Installs Debian packages, or says which ones a person has to install.
apt_install() {
    local command="apt-get install -y --no-install-recommends $*"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || stop "Please run this as root, then try again:" "  $command"
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n)
    fi
    say "Installing system packages: $*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 ||
        say "The package lists could not be refreshed; trying with the old ones."
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command -q >&2 ||
        stop "The system packages could not be installed. Please run this as root, then try again:" "  $command"
}

# Names of all installed packages and of what they provide (libglib2.0-0t64 provides libglib2.0-0).
installed_packages() {
    dpkg-query -W -f '${db:Status-Abbrev}|${Package}, ${Provides}\n' |
        sed -n 's/^ii *|//p' | tr ',' '\n' | sed 's/(.*//; s/ //g'
}

install_system_packages() {
    if ! command -v apt-get >/dev/null; then
        command -v xvfb-run >/dev/null || stop \
            "This is neither Debian nor Ubuntu. Please install what corresponds to these packages, then try again:" \
            "  ${system_packages[*]}"
        return
    fi
    local have missing=() package
    have="$(installed_packages)"
    for package in "${system_packages[@]}"; do
        grep -qxF "$package" <<<"$have" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Debian keeps ensurepip, which venv needs, in a package of its own.
install_venv_module() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    local package=python3-venv
    [ "$(readlink -f "$1")" = "$(readlink -f /usr/bin/python3)" ] || package="$(basename "$1")-venv"
    command -v apt-get >/dev/null || stop "$1 lacks the modules venv and ensurepip; please install them, then try again."
    apt_install "$package"
    "$1" -c 'import ensurepip, venv' || stop "$1 still lacks the modules venv and ensurepip; choose another with PYTHON=..."
}

make_venv() {
    .venv/bin/python -m pip --version >/dev/null 2>&1 && new_enough .venv/bin/python && return
    local python
    python="$(find_python)" || stop "Python 3.11 or newer was not found (looked for: ${PYTHON:-python3 ... python3.11})." \
        "Please install it (Debian, Ubuntu: apt-get install python3 python3-venv), or name one with PYTHON=..."
    install_venv_module "$python"
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

fingerprint() { { cat pyproject.toml constraints.txt scripts/setup.sh && .venv/bin/python --version && pwd; } | sha256sum; }

install_python_packages() {
    local stamp=.venv/napari-diffseg.stamp pip=(.venv/bin/python -m pip install -q -c constraints.txt)
    [ "$(fingerprint)" != "$(cat "$stamp" 2>/dev/null)" ] || return 0
    rm -f "$stamp"
    say "Installing Python packages (the first time this takes several minutes)"
    "${pip[@]}" pip
    # torch alone and first: the version pinned in constraints.txt, from wherever pip is configured to look.
    "${pip[@]}" torch
    "${pip[@]}" --group dev
    "${pip[@]}" --no-build-isolation -e '.[all,train,cam,monai]'
    fingerprint >"$stamp"
}

# Beside PyQt6; QT_API chooses between them.
install_pyside() {
    [ "${QT_API:-}" = pyside6 ] || return 0
    .venv/bin/python -c 'import PySide6' 2>/dev/null || .venv/bin/python -m pip install -q -c constraints.txt --group pyside
}

install_system_packages
make_venv
install_python_packages
install_pyside
