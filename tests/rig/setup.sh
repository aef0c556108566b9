#!/bin/sh
# Install what the rig needs on a bare Debian 12 (or Ubuntu 24.04), as root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends \
    systemd-container mmdebstrap iproute2 util-linux mount python3 python3-venv ca-certificates
