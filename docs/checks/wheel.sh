#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The wheel and the sdist as a user meets them: built, installed into an empty
# environment, used and tested where no checkout is near.
#
#   docs/checks/wheel.sh [PYTHON] [FOLDER]
#
# FOLDER (made, 6 GB with torch; a temporary one unless given) keeps what was built.
# Every python3.10 .. python3.13 that runs tries the same wheel with NumPy alone.
set -euo pipefail
python=${1:-python3}
python=$(command -v "$python")
work=${2:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$(dirname "$0")/../.."

say() { printf '\n== %s\n' "$*"; }

say "sources, as git knows them"
rm -rf "$work"/{source,unpacked,dist,again,empty,env,bare}
mkdir -p "$work"/{source,unpacked,empty}
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/source"

say "build: sdist, and the wheel out of that sdist; then a wheel of the sources"
"$python" -m venv "$work/env"
bin=$work/env/bin
"$bin/pip" install -qq --upgrade pip build
"$bin/python" -m build -o "$work/dist" "$work/source" >"$work/build.log" 2>&1
"$bin/python" -m build --wheel -o "$work/again" "$work/source" >>"$work/build.log" 2>&1
wheel=$(echo "$work"/dist/*.whl)
contents() { "$bin/python" -m zipfile -l "$1" | awk 'NR > 1 {print $1}' | sort; }
diff <(contents "$wheel") <(contents "$work"/again/*.whl)
(cd "$work" && ls -l dist | awk 'NR > 1 {print $5, $9}')
contents "$wheel" | grep -E '_rans|configs/.*yaml|weights/.*safetensors'

say "install"
"$bin/pip" install -qq "$wheel[all,test]"
"$bin/pip" list 2>/dev/null | grep -iE '^(polycodec|torch|numpy|pydantic) '
du -sh "$work/env" | cut -f1

say "use"
cd "$work/empty"
export PATH=$bin:$PATH XDG_CONFIG_HOME=$work/config
unset PYTHONPATH VIRTUAL_ENV
where='import polycodec; print(polycodec.__file__)'
python -c "$where"
[[ $(python -c "$where") == "$work"/env/* ]]
python -c '
from polycodec import cuda
from skimage import data, io
print("the coder that runs:", cuda.backend())
io.imsave("photo.png", data.astronaut()[:256, :384])'
run() { echo "+ $*"; "$@"; }
run polycodec --help
run polycodec models
run polycodec parts transform
run polycodec encode photo.png -q 40
run polycodec info photo.plc
run polycodec decode photo.plc -o back.png
ls -l

say "tests that need no checkout"
cp -r "$work/source/tests" .
# These read the checkout itself: sources, documents, Makefile.
rm tests/contracts/test_{docs,house,imports,readme,reference,walkthrough}.py tests/cuda/test_neon.py
printf '[pytest]\naddopts = --import-mode=importlib -q\npythonpath = tests\n' >pytest.ini
python -m pytest -p no:cacheprovider tests \
  --deselect tests/files/test_container.py::test_format_md_shows_the_tables_and_the_golden_file

say "the same wheel with other Pythons, NumPy beside it"
for other in python3.10 python3.11 python3.12 python3.13; do
  "$other" -c '' 2>/dev/null || continue
  rm -rf "$work/bare"
  "$other" -m venv "$work/bare"
  "$work/bare/bin/pip" install -qq numpy
  "$work/bare/bin/pip" install -qq --no-deps "$wheel"
  "$work/bare/bin/python" - <<'END'
import platform

import numpy as np

from polycodec import cuda

rng = np.random.default_rng(0)
tables = cuda.TableSet.from_pmfs(
    [[0.1, 0.2, 0.4, 0.2, 0.1]], minimum=[-2], precision=12, escape=[1e-4]
)
symbols = rng.integers(-3, 4, 10_000)
indexes = np.zeros(symbols.size, np.uint8)


def stream(backend):
    encoder = cuda.StreamEncoder(backend=backend)
    encoder.put(symbols, indexes, tables)
    return encoder.finish()


data = stream("native")
assert data == stream("numpy")
decoder = cuda.StreamDecoder(data, backend="native")
assert (decoder.get(indexes, tables) == symbols).all()
decoder.finish()
print(platform.python_version(), cuda.backend(), len(data), "bytes there and back")
END
done
