#!/bin/sh
# Compare our F1 with TensorFlow Addons in an environment of its own (.venv-addons, Python 3.11).
set -eu
cd "$(dirname "$0")/../.."
for python in python3.11 "$1" python3; do
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    echo 'TensorFlow Addons 0.23 has no build for this Python: install Python 3.11, then run make check-addons again.' >&2
    exit 2
fi
if [ ! -e .venv-addons/.installed ]; then
    "$python" -m venv .venv-addons
    .venv-addons/bin/python -m pip install --quiet --disable-pip-version-check -r tests/addons/requirements.txt
    touch .venv-addons/.installed
fi
TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore PYTHONPATH=. exec .venv-addons/bin/python tests/addons/compare.py
