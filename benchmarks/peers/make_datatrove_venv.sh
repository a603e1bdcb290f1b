#!/usr/bin/env bash
# Makes the virtual environment of datatrove and datasets that the comparison of tokenizing runs in.
set -euo pipefail
cd "$(dirname "$0")"
venv=.venv-datatrove
if [ -e "$venv/.installed" ]; then exit 0; fi
test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "datatrove[io,processing]==0.10.1" \
  "datasets==5.2.0" "tokenizers==0.23.3"
touch "$venv/.installed"
