#!/usr/bin/env bash
# Plants one fault after another in a copy of the engine and asks whether the standing oracle finds it. Exit status 1 when
# one survives, or no longer fits the source.
#
#   tests/mutants.sh [NAME…]      all mutants of tests/mutants, or those named
#   MANUMIT_ORACLE_CASES=N        random cases each mutant must survive [default: 400]
#   MANUMIT_ORACLE_BY=nightly     ask DuckDB and two executors of Ballista alone, as tests/nightly.sh does
#   MANUMIT_ORACLE_BY=simulation  plant the faults of tests/mutants/simulation, and ask the simulation (tests/it/simulation)
#   MANUMIT_SIMULATIONS=N         runs each of these must survive [default: 500]
#
# Each patch brings its fault behind a switch, `mutant("name")`, so that all faults are compiled at once and the
# environment variable MANUMIT_MUTANT tells which of them is awake: one build, not one a fault.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
# A target folder of its own: cargo tells the crates of two checkouts apart by nothing, and would mix them up. What is
# compiled of third parties is linked over, once.
export CARGO_TARGET_DIR=$target/mutants
if [ ! -d "$CARGO_TARGET_DIR/ci" ] && [ -d "$target/ci/deps" ]; then
  mkdir -p "$CARGO_TARGET_DIR/ci/deps"
  find "$target/ci/deps" -maxdepth 1 -type f ! -name '*manumit*' ! -name 'it-*' ! -name 'end_to_end-*' -exec cp -l -t "$CARGO_TARGET_DIR/ci/deps" {} +
  cp -a "$target/ci/.fingerprint" "$CARGO_TARGET_DIR/ci/"
  cp -al "$target/ci/build" "$CARGO_TARGET_DIR/ci/"
  rm -rf "$CARGO_TARGET_DIR"/ci/{.fingerprint,build}/manumit*
fi
[ -z "${MANUMIT_ORACLE_BY:-}" ] || { source tests/python.sh; export MANUMIT_PYTHON=$python; }
copy=$CARGO_TARGET_DIR/source
rm -rf "$copy"
mkdir -p "$copy"
trap 'rm -rf "$copy"' EXIT
git ls-files -coz --exclude-standard | grep -zv '^tests/mutants' | xargs -0 cp -p --parents -t "$copy"
cd "$copy"

patches=$root/tests/mutants
[ "${MANUMIT_ORACLE_BY:-}" != simulation ] || patches=$patches/simulation
names=() lost=0
for patch in "$patches"/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ] && [[ ! " $* " == *" $name "* ]]; then continue; fi
  if patch -p1 -s -F2 --no-backup-if-mismatch < "$patch" > /dev/null; then
    names+=("$name")
  else
    echo "$name does not fit the source any more: mend ${patches#"$root"/}/$name.patch" >&2
    lost=1
  fi
done
[ $# -eq 0 ] || [ ${#names[@]} -eq $# ] || { echo "some of the names are no mutants" >&2; exit 1; }
crates=(manumit-engine manumit-rules)
[ "${MANUMIT_ORACLE_BY:-}" != simulation ] || crates=(manumit-engine manumit-archive manumit)
for crate in "${crates[@]}"; do
  cat >> "crates/$crate/src/lib.rs" << 'RUST'

/// The fault of this name is awake.
pub(crate) fn mutant(name: &str) -> bool {
    static AWAKE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    AWAKE.get_or_init(|| std::env::var("MANUMIT_MUTANT").unwrap_or_default()) == name
}
RUST
done

# Only what the oracle needs is compiled, and quickly; the copy's path keeps it apart from the real thing, and third-party
# crates are those that are compiled already.
printf '//! The standing oracle alone.\n\nmod oracle;\nmod standing;\n' > tests/it/main.rs
if [ "${MANUMIT_ORACLE_BY:-}" = simulation ]; then
  echo 'mod simulation;' >> tests/it/main.rs
else
  sed -i -E '/^manumit(-feed|-io|-sim|-codec|-archive)?\.workspace/d' tests/Cargo.toml
fi
quick=()
for crate in manumit-model manumit-sql manumit-rules manumit-engine manumit-tests manumit-archive manumit-feed manumit-codec manumit; do
  quick+=(--config "profile.ci.package.$crate.opt-level=1")
done
echo "compiling the engine with ${#names[@]} faults asleep"
binary=$(cargo test --profile ci --workspace --test it --no-run --offline "${quick[@]}" --message-format=json-render-diagnostics 2> "$copy/build.log" |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1) || { tail -40 "$copy/build.log" >&2; exit 1; }

export MANUMIT_ORACLE_CASES=${MANUMIT_ORACLE_CASES:-400} MANUMIT_ORACLE_PATIENCE=0
export MANUMIT_SIMULATIONS=${MANUMIT_SIMULATIONS:-500} MANUMIT_SIMULATION_PATIENCE=0
cd tests
case ${MANUMIT_ORACLE_BY:-} in
  # One cluster for all cases: see tests/nightly.sh.
  nightly) asked=(--ignored standing::nightly) MANUMIT_ORACLE_CASES=$((MANUMIT_ORACLE_CASES < 100 ? MANUMIT_ORACLE_CASES : 100)) ;;
  simulation) asked=(simulation::whatever) ;;
  "") asked=(standing::random) ;;
  *) echo "MANUMIT_ORACLE_BY=$MANUMIT_ORACLE_BY: nightly and simulation are known" >&2; exit 1 ;;
esac
held() { MANUMIT_MUTANT=$1 "$binary" "${asked[@]}" > "$copy/$1.log" 2>&1; }
if ! held none; then
  echo "the oracle fails without any fault:" >&2
  tail -60 "$copy/none.log" >&2
  exit 1
fi
printf '| mutant | fault | fate | found in |\n| --- | --- | --- | --- |\n'
for name in "${names[@]}"; do
  words=$(head -1 "$patches/$name.patch")
  if held "$name"; then
    fate="**survived**" found="" lost=1
  else
    fate=killed found=$(sed -n 's/^seed \([0-9]*\):.*/case of seed \1/p' "$copy/$name.log" | head -1)
  fi
  printf '| `%s` | %s | %s | %s |\n' "$name" "$words" "$fate" "$found"
done
exit $lost
