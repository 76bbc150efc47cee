# For scripts: `$python` with what tests/requirements.txt names, and `program`, which builds the program and tells where it is.

need_python() {
  local wanted installed tools
  wanted=$(sed -n 's/^\([a-z]*\)==.*/\1/p' tests/requirements.txt | paste -sd, -)
  for installed in "${MANUMIT_PYTHON:-}" python3; do
    if [ -n "$installed" ] && "$installed" -c "import $wanted" 2>/dev/null; then
      python=$installed
      return
    fi
  done
  tools="${MANUMIT_TOOLS_DIR:-$HOME/.cache/manumit/tools}/python"
  python=$tools/bin/python
  if ! "$python" -c "import $wanted" 2>/dev/null; then
    echo "installing what tests/requirements.txt names into $tools" >&2
    python3 -m venv "$tools"
    "$python" -m pip install -q --disable-pip-version-check -r tests/requirements.txt
  fi
}

program() {
  if [ -z "${MANUMIT:-}" ]; then
    cargo build --profile ci --workspace --bin manumit --locked -q >&2
    MANUMIT=${CARGO_TARGET_DIR:-target}/ci/manumit
  fi
  echo "$MANUMIT"
}

need_python
