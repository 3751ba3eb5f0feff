#!/bin/sh
# A minimal Debian as a tar, where no image registry can be reached: the stand-in for docker.io/library/debian:*-slim.
# usage: debootstrap.sh SUITE OUT.tar
set -eu
suite=$1 out=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" >"$out.log" 2>&1 || {
    tail -n 2 "$out.log" >&2
    exit 1
}
rm "$out.log"
cd "$root"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* dev/* proc/* sys/* run/* tmp/*
find usr/share/doc -type f ! -name copyright -delete
rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian usr/share/linda
# As in Debian's own slim images: what is installed later leaves these out, too.
cat >etc/dpkg/dpkg.cfg.d/slim <<'SLIM'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
SLIM
tar --numeric-owner --sort=name -cf "$out" .
