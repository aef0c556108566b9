#!/bin/sh
# Install what `./dev faults` needs beside Python, as root on Debian 12 or Ubuntu 24.04.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends faketime util-linux mount
