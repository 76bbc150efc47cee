#!/usr/bin/env bash
# Stands before rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER): those that read what others wrote are compiled
# with LLVM's coverage counters. Dependencies are compiled as always, so nothing large is built again.
set -euo pipefail
rustc=$1
shift
name=
for ((at = 1; at <= $#; at++)); do
  if [ "${!at}" = --crate-name ]; then
    next=$((at + 1))
    name=${!next}
  fi
done
case $name in
  manumit_codec | manumit_feed | manumit_rules | manumit_model)
    exec "$rustc" "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
      -C llvm-args=-sanitizer-coverage-inline-8bit-counters ;;
esac
exec "$rustc" "$@"
