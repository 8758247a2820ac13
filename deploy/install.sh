#!/bin/sh
# Installs the page into an environment of its own: deploy/install.sh FOLDER PACKAGE [options of pip]
#
#     deploy/install.sh /opt/fbinpaint .                                          # this clone, PyTorch with CUDA
#     deploy/install.sh /opt/fbinpaint dist/fbinpaint-0.1.0-py3-none-any.whl \
#         --extra-index-url https://download.pytorch.org/whl/cpu                  # a wheel, PyTorch without CUDA
#
# FOLDER/bin/fbinpaint is the command. The Dockerfile and `make package`, which CI runs, both go by it.
set -eu
folder=$1 package=$2
shift 2
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check "$package[demo]" "$@"
"$folder/bin/fbinpaint" --version
