#!/usr/bin/env bash
# Installs what a script needs and this machine lacks, or says what that is and why.
#
#   compose/install-missing.sh WHAT:PACKAGE:WHY …
#
# WHAT is a program; a C header, as header=openssl/ssl.h; or a Python module, as module=venv.
# PACKAGE is Debian's name for it. Nothing is installed except as root on a machine with apt-get.
set -euo pipefail

is_there() {
  case "$1" in
    header=*) command -v cc >/dev/null && echo "#include <${1#header=}>" | cc -E -x c - >/dev/null 2>&1 ;;
    module=*) python3 -c "import ${1#module=}" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
for row in "$@"; do
  IFS=: read -r what package why <<<"$row"
  is_there "$what" || missing+=("$package:$why")
done
((${#missing[@]})) || exit 0

echo "Missing on this machine:" >&2
for row in "${missing[@]}"; do printf '    %-24s %s\n' "${row%%:*}" "${row#*:}" >&2; done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing them from Debian" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]%%:*}" >&2
else
  echo "Install them with your package manager (the names are Debian's) and run this again." >&2
  exit 1
fi
