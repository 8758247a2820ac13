#!/bin/sh
# Whether a wheel does its work where nothing else is: deploy/check_package.sh WHEEL MODEL
#
# Installs it into an empty environment (deploy/install.sh), restores and segments a photo with the model, and serves
# the page; prints how many packages and megabytes that took.
set -eu
here=$(pwd) model=$(realpath "$2") wheel=$(realpath "$1") folder=$(mktemp -d)
trap 'kill $server 2> /dev/null || true; rm -rf "$folder"' EXIT
server=
deploy/install.sh "$folder/environment" "$wheel"
cd "$folder"  # where no clone is on Python's path
bin=$folder/environment/bin
"$bin/fbinpaint" run --image "$here/examples/street.png" --mask "$here/examples/street_mask.png" --model "$model" \
    --output restored.png
"$bin/fbinpaint" segment --image "$here/examples/street.png" --model "$model" --output map.png
test -s restored.png && test -s map.png
port=$("$bin/python" -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
GRADIO_TEMP_DIR=$folder/page "$bin/fbinpaint" demo --model "$model" --port "$port" > page.log 2>&1 &
server=$!
"$bin/python" - "$port" << 'END' || { cat page.log; exit 1; }
import sys, time, urllib.request

for attempt in range(120):
    try:
        assert b"fbinpaint" in urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/config", timeout=9).read()
        break
    except OSError:
        time.sleep(1)
else:
    raise SystemExit("the page does not answer")
END
packages=$("$bin/pip" list --format=freeze --disable-pip-version-check | wc -l)
echo "run, segment and demo work; $packages packages, $(du -sm "$folder/environment" | cut -f1) MB"
