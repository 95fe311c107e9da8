#!/bin/sh
# Makes a release of this checkout in dist/: sdist, wheel, bill of materials, digests, and the tag.
set -eu

usage="usage: sh scripts/release.sh [--dry] VERSION
  VERSION    such as 0.2.0: that of volseg/__init__.py, with a section of its own in CHANGELOG.md
  --dry      make and check the files, also of a tree with changes; write no tag
  PYTHON=/path/to/python    use this Python (3.10 to 3.14); by default .venv/bin/python
  NETWORKS=FOLDER           publish the packages (.zip of \`volseg pack\`) in it too

The wheel is built from that distribution. VOLSEG_URL and VOLSEG_FILES_URL are the address of the project and of the
files of this version, for the links of the package's page; VOLSEG_CATALOGUE_URL is where dist/networks.json, the
catalogue of the trained networks, will be read by \`volseg fetch\`; see setup.py."

dry=
case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    --dry)
        dry=yes
        shift
        ;;
esac
if [ $# -ne 1 ]; then
    echo "$usage" >&2
    exit 2
fi
version=$1
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

stop() {
    echo "release.sh: $*" >&2
    exit 1
}

stated=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' volseg/__init__.py)
[ "$stated" = "$version" ] || stop "volseg/__init__.py has the version $stated; set it to $version, and in bundles/_base/template"
for file in bundles/*/metadata.json; do
    grep -q "\"version\": \"$version\"" "$file" || stop "$file has another version; run python bundles/_base/compose.py"
done
section() {
    awk -v head="## [$1]" '/^## / { on = index($0, head) > 0 } on' CHANGELOG.md
}
notes=$(section "$version")
if [ -z "$notes" ] && [ -n "$dry" ]; then
    notes=$(section Unreleased)
fi
[ -n "$notes" ] || stop "CHANGELOG.md has no section '## [$version]'; give the Unreleased one that name and the date"
"$python" bundles/_base/compose.py --check || stop "the bundles are not those of bundles/_base"
if [ -z "$dry" ]; then
    [ -z "$(git status --porcelain)" ] || stop "files differ from the last commit; commit them"
    ! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || stop "the tag v$version is there already"
fi
[ ! -e "dist/volseg-$version.tar.gz" ] || [ -n "$dry" ] || stop "dist/ holds this version already; move it away"

[ -z "${NETWORKS-}" ] || ls "$NETWORKS"/*.zip >/dev/null 2>&1 || stop "NETWORKS=$NETWORKS holds no .zip of volseg pack"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install -q build twine cyclonedx-bom
# Dates of files count in an archive: those of the last commit, so that two builds give the same bytes.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
"$work/tools/bin/python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }
"$work/tools/bin/twine" check --strict "$work/dist"/*

# What is installed with the wheel alone is the bill of materials.
"$python" -m venv "$work/clean"
"$work/clean/bin/python" -m pip install -q -c constraints.txt torch
"$work/clean/bin/python" -m pip install -q -c constraints.txt "$work/dist/volseg-$version-py3-none-any.whl"
(
    cd "$work"
    "$work/clean/bin/volseg" --version
    "$work/clean/bin/volseg" bundles >/dev/null
)
# The trained networks of the wheel, and those of NETWORKS, as packages with a catalogue for `volseg fetch`.
for package in bundles/*/configs; do
    name=$(basename "$(dirname "$package")")
    (cd "$work" && "$work/clean/bin/volseg" pack "$name" -o "dist/$name.zip")
done
[ -z "${NETWORKS-}" ] || cp "$NETWORKS"/*.zip "$work/dist/"
(cd "$work/dist" && "$work/clean/bin/volseg" bundles catalogue ./*.zip -o networks.json --title "Networks of volseg $version")
"$work/tools/bin/cyclonedx-py" environment --output-format JSON --output-file "$work/dist/volseg-$version.cdx.json" \
    "$work/clean/bin/python"
printf '%s\n' "$notes" >"$work/dist/volseg-$version.md"
(cd "$work/dist" && sha256sum -- * >SHA256SUMS)
mkdir -p dist
cp "$work/dist"/* dist/
cat dist/SHA256SUMS
if [ -n "$dry" ]; then
    echo "dist/ is complete; no tag was written (--dry)"
else
    git tag -a "v$version" -F "dist/volseg-$version.md"
    echo "dist/ is complete and v$version is the tag; push it, upload dist/*.whl and dist/*.tar.gz with twine, and"
    echo "put networks.json and dist/*.zip beside each other where VOLSEG_CATALOGUE_URL says"
fi
