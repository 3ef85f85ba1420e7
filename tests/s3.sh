#!/usr/bin/env bash
# Anchors of the audit chain in a bucket whose objects are locked, at a real S3 server: Versity's gateway,
# built from its published Go module (Go 1.24 or later, 3 minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

export WEIR_CACHE="${WEIR_CACHE:-$PWD/.weir}"
VERSION=v1.8.0
export GOPATH="$WEIR_CACHE/go" GOCACHE="$WEIR_CACHE/go-build" GOFLAGS=-modcacherw
server="$GOPATH/bin/versitygw"
[ -x "$server" ] || go install "github.com/versity/versitygw/cmd/versitygw@$VERSION"

dir=$(mktemp -d)
mkdir "$dir/objects" "$dir/versions"
export AWS_ACCESS_KEY_ID=weir AWS_SECRET_ACCESS_KEY=weir-secret AWS_REGION=us-east-1
port=${WEIR_S3_PORT:-7071}
"$server" --quiet --port "127.0.0.1:$port" --access "$AWS_ACCESS_KEY_ID" --secret "$AWS_SECRET_ACCESS_KEY" \
  posix --versioning-dir "$dir/versions" "$dir/objects" >"$dir/log" 2>&1 &
trap 'kill %1; wait %1 2>/dev/null || true; rm -rf "$dir"' EXIT
export WEIR_S3="http://127.0.0.1:$port"
# s3 METHOD PATH BODY [HEADER...]
s3() {
  local method=$1 path=$2 body=$3 sha
  shift 3
  sha=$(printf %s "$body" | sha256sum | cut -d' ' -f1)
  curl --silent --show-error --fail-with-body -X "$method" --aws-sigv4 "aws:amz:$AWS_REGION:s3" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "x-amz-content-sha256: $sha" "$@" \
    ${body:+--data-raw "$body"} "$WEIR_S3$path"
}
s3 GET / '' --retry 30 --retry-connrefused --retry-delay 1 --output /dev/null
s3 PUT /notes '' -H 'x-amz-bucket-object-lock-enabled: true'
lock='<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>'
lock+='<Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>'
s3 PUT '/notes?object-lock=' "$lock" \
  -H "content-md5: $(printf %s "$lock" | openssl md5 -binary | base64)"

cargo test --locked -p weir-tests --test it notes_go_to_a_bucket -- --nocapture "$@"
