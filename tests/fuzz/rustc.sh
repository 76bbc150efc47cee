#!/usr/bin/env bash
# Stands before rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER): those that read what others wrote are compiled
# with the counters that libFuzzer looks at. Other crates are compiled as always, so nothing large is built again.
set -euo pipefail
rustc=$1
shift
name=
for ((at = 1; at < $#; at++)); do
  [ "${!at}" != --crate-name ] || { next=$((at + 1)) name=${!next}; }
done
case $name in
  manumit_codec | manumit_feed | manumit_io | manumit_model | manumit_rules | manumit_sql)
    # One unit each: counters of code that several units have would refer to sections that the linker drops.
    set -- "$@" -C codegen-units=1 -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
      -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
      -C llvm-args=-sanitizer-coverage-trace-compares ;;
esac
exec "$rustc" "$@"
