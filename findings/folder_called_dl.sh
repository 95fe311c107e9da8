#!/bin/sh
# In a working directory that holds a folder called dl, as for deep learning, pydicom cannot be imported once python-gdcm is installed:
# "module 'dl' has no attribute 'RTLD_NOW'". python-gdcm looks for a module dl, which Python gave up with version 3, and takes the folder
# for it. This concerns `python -m`, scripts in that directory and notebooks, but no installed command. Without python-gdcm, or from
# another directory, all is well.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 numpy==2.4.6 python-gdcm==3.2.6
mkdir -p "$folder/study/dl" "$folder/elsewhere"
told() {
  cd "$folder/$1" && "$folder/venv/bin/python" -c 'import pydicom; print("pydicom", pydicom.__version__)' 2>&1 | tail -n 1
}
elsewhere=$(told elsewhere)
study=$(told study)
echo "python-gdcm 3.2.6; in another directory: $elsewhere; beside a folder dl: $study"
"$folder/venv/bin/pip" uninstall --quiet --yes python-gdcm
without=$(told study)
echo "beside a folder dl, without python-gdcm: $without"
test "$elsewhere" = "pydicom 3.0.2" && test "$without" = "pydicom 3.0.2"
case $study in *"has no attribute 'RTLD_NOW'"*) ;; *) exit 1 ;; esac
