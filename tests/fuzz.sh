#!/usr/bin/env bash
# The fuzz targets led by coverage: every decoder, the cutting of files, a feed's mapping, and the readers of feeds and rules.
#
#   tests/fuzz.sh [SECONDS [TARGET]...]     seconds for each target [default: 30], all targets unless some are named
#
# An input must not panic, take longer than 10 seconds or 2 GiB, or get lost. Inputs that reach new code are kept in
# MANUMIT_FUZZ_FOLDER [default: ~/.cache/manumit/fuzz] from run to run; MANUMIT_FUZZ_KEEP=20 adds to tests/fuzz/corpus, which
# `cargo test` replays, at most so many of a target: those that reach most beyond it. Needs a C++ compiler, for libFuzzer itself.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
case $seconds in *[!0-9]* | "") sed -n '2,9s/^# \?//p' "$0" >&2; exit 2 ;; esac
shift || true
folder=${MANUMIT_FUZZ_FOLDER:-$HOME/.cache/manumit/fuzz}
mkdir -p "$folder"
log=$folder/build.log
binary=$(RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc.sh cargo test --profile ci --workspace --locked \
  --features manumit-fuzz/guided --test guided --no-run --message-format=json-render-diagnostics 2> "$log" |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1) || { tail -40 "$log" >&2; exit 1; }
[ -x "$binary" ] || { tail -40 "$log" >&2; exit 1; }
known=$(sed -n '/pub const NAMES/,/;/s/[^"]*"\([a-z]*\)"[^"]*/\1 /gp' tests/fuzz/src/targets.rs)
targets=("$@")
[ $# -gt 0 ] || read -r -a targets <<< "$(tr '\n' ' ' <<< "$known")"
for target in "${targets[@]}"; do
  [[ " $known " == *" $target "* ]] || { echo "no target $target; there are: $known" >&2; exit 2; }
done

# One target: its seeds, what is kept in the project and what earlier runs found, and on from there.
one() {
  local target=$1 own=$folder/$1
  mkdir -p "$own" "$own.seeds" "tests/fuzz/corpus/$target"
  export MANUMIT_FUZZ_TARGET=$target MANUMIT_FUZZ_SEEDS=$own.seeds
  local limits=(-timeout=10 -rss_limit_mb=2048 -max_len=16384)
  if ! "$binary" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$folder/$target-" \
    "$own" "$own.seeds" "tests/fuzz/corpus/$target" > "$own.log" 2>&1; then
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$own.log" | tail -1)
    sed -n '/^panicked\|^==.*ERROR/,$p' "$own.log" | head -25
    echo "$target: FAILED with the input ${input:-that no file was written for}; all it said: $own.log"
    echo "  again:   MANUMIT_FUZZ_TARGET=$target $binary -timeout=10 -rss_limit_mb=2048 $input"
    echo "  keep it: cp $input tests/fuzz/corpus/$target/   (cargo test --profile ci --workspace --test fuzz replays it)"
    return 1
  fi
  if [ "${MANUMIT_FUZZ_KEEP:-0}" -gt 0 ]; then
    rm -rf "$own.best"
    mkdir "$own.best"
    cp "tests/fuzz/corpus/$target"/* "$own.best" 2> "$own.merge.log" || true
    sleep 1
    touch "$own.best.before"
    "$binary" "${limits[@]}" -max_len=4096 -set_cover_merge=1 "$own.best" "$own" >> "$own.merge.log" 2>&1
    # They are written in the order in which they were chosen: what reaches most comes first.
    local best
    find "$own.best" -type f -newer "$own.best.before" -printf '%T@ %f\n' | sort -n | head -n "$MANUMIT_FUZZ_KEEP" |
      while read -r _ best; do cp "$own.best/$best" "tests/fuzz/corpus/$target/${best:0:16}"; done
  fi
  # A line of libFuzzer: `#1234 DONE cov: 567 ft: 890 corp: 12/3456b ...`.
  local first last runs
  first=$(sed -n 's/^#.*INITED.* cov: \([0-9]*\).*/\1/p' "$own.log" | tail -1)
  last=$(sed -n 's/^#.* cov: \([0-9]*\).*/\1/p' "$own.log" | tail -1)
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$own.log")
  printf '%-10s %9s inputs, edges reached %6s -> %6s, inputs kept %5s\n' \
    "$target" "$runs" "${first:-?}" "${last:-?}" "$(find "$own" -type f | wc -l)"
}
export -f one
export folder seconds binary
# As many at once as there are processors; a failure does not stop the others.
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'one "$1"' - {}
