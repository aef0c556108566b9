#!/bin/sh
# Install the engines that the tests start themselves, as root, from Debian's or Ubuntu's packages.
# Their services are neither started nor enabled. With --check: only say whether they are there.
set -eu
packages="postgresql radosgw ceph-mon ceph-osd ceph-common"
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "${1:-}" = --check ]; then
    echo "not installed:$missing"
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests/setup-engines.sh: installing$missing needs root" >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d  # asked by every package before it starts its service
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# The tests make clusters of their own.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] \
    || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 - a list of words
apt-get install -qy --no-install-recommends $missing
if [ -d /run/systemd/system ]; then
    for service in postgresql ceph.target ceph-mon.target ceph-osd.target ceph-radosgw.target; do systemctl disable "$service" 2>/dev/null || true; done
fi
