# For benches: `$python` as tests/python.sh gives it, `program`, and environments for what only some benches need.
#
#   MANUMIT_BENCH_RUNS=N         runs of each measurement; the median is printed [default: 5]
#   MANUMIT_BENCH_FOLDER=FOLDER  where generated data are kept from run to run [default: benches/.data]
#   MANUMIT_BENCH_THREADS=N      threads of the program and of its peers [default: 2]
#   MANUMIT_TOOLS_DIR=FOLDER     where Python packages are kept [default: ~/.cache/manumit/tools]
#   MANUMIT=BINARY               the program [default: built here]

source tests/python.sh

runs=${MANUMIT_BENCH_RUNS:-5} threads=${MANUMIT_BENCH_THREADS:-2}
data=${MANUMIT_BENCH_FOLDER:-benches/.data}
mkdir -p "$data"
export PYTHONPATH=benches${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1

# Makes a Python environment of that name with what the file names, package by package, so that one that cannot be had does
# not keep the others away; prints the path of its Python.
environment() { # name, requirements
  local folder="${MANUMIT_TOOLS_DIR:-$HOME/.cache/manumit/tools}/$1" package
  [ -x "$folder/bin/python" ] || python3 -m venv "$folder" >&2
  if ! cmp -s "$2" "$folder/requirements.txt"; then
    echo "installing what $2 names into $folder" >&2
    local whole=yes
    while read -r package; do
      "$folder/bin/python" -m pip install -q --disable-pip-version-check "$package" >&2 ||
        { echo "$package cannot be installed" >&2; whole=; }
    done < <(grep -v '^#' "$2")
    [ -z "$whole" ] || cp "$2" "$folder/requirements.txt"
  fi
  echo "$folder/bin/python"
}

# Generated once, kept under its name.
generated() { # file name, generator's arguments…
  local file=$data/$1
  shift
  if [ ! -s "$file" ]; then
    "$python" benches/data/generate.py "$@" --out "$file.part" >&2
    mv "$file.part" "$file"
  fi
  echo "$file"
}
