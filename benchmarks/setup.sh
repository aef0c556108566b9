#!/bin/sh
# Install what the benchmarks compare with, as root, from Debian's or Ubuntu's packages:
#   docker-registry  the peer: what registries are made of today
#   nginx            the ceiling for reads: the same files, served statically
#   curl             what AMS's downloads are compared with
#   strace           counts the fsync calls of a push, so that both sides promise the same
# Their services are neither started nor enabled; the benchmarks start processes of their own.
set -eu
if [ "$(id -u)" != 0 ]; then
    echo "benchmarks/setup.sh: installing docker-registry, nginx, curl and strace needs root" >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d  # asked by every package before it starts its service
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
new=
for service in docker-registry nginx; do
    dpkg-query -W -f '${Status}' "$service" 2>/dev/null | grep -q ' installed$' || new="$new $service"
done
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends docker-registry nginx curl strace
if [ -d /run/systemd/system ]; then
    for service in $new; do systemctl disable "$service"; done
fi
