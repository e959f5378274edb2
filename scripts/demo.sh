#!/usr/bin/env bash
# Opens napari on the sample scan and starts the trajectory. Without a display the same journey runs under a
# virtual one and leaves its layers and a screenshot in demo-output/.
set -euo pipefail
cd "$(dirname "$0")/.."
export QT_API="${QT_API:-pyqt6}"
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    exec .venv/bin/python -m napari_diffseg.demo "$@"
fi
echo "No display: running the demonstration under a virtual one."
exec scripts/under_xvfb.sh .venv/bin/python -m napari_diffseg.demo --output demo-output "$@"
