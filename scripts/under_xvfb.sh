#!/usr/bin/env bash
# Runs a command under a virtual display of 24-bit depth, where napari's OpenGL canvas works.
set -euo pipefail
unset WAYLAND_DISPLAY
export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1
exec xvfb-run -a -s "-screen 0 1280x800x24" "$@"
