#!/bin/sh
# Takes the pictures in docs/pictures/rustdoc: pages of the documentation as a browser shows them, wide and narrow.
# Needs chromium and pngquant.
set -eu
cd "$(dirname "$0")/../../.."
cargo doc -p streamz --all-features --no-deps
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

# take NAME PAGE WIDTH HEIGHT
take() {
    picture=docs/pictures/rustdoc/$1.png
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-sync \
        --disable-background-networking --disable-component-update --user-data-dir="$profile" \
        --window-size="$3,$4" --screenshot="$PWD/$picture" "file://$PWD/target/doc/streamz/$2" 2>/dev/null
    pngquant --force --strip --output "$picture" 64 "$picture"
}

take crate index.html 1280 1500
take crate-narrow index.html 420 1500
take stream struct.Stream.html 1280 1560
take stream-narrow struct.Stream.html 420 1500
take operator struct.Retry.html 1280 1500
take pattern patterns/retry/index.html 1280 1500
take pattern-narrow patterns/retry/index.html 420 1500
