#!/bin/sh
# VTK and ITK read the nine numbers of a MetaImage's TransformMatrix the two ways round. An image that SimpleITK wrote turned by a
# quarter is turned the other way by VTK, and by PyVista with it: a voxel at (6, 23, 33) lies at (14, 17, 33). The other way too.
# Axes that are turned by half turns or not at all do not show it, since such a matrix is its own transpose.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vtk==9.7.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from pathlib import Path
import SimpleITK, vtk

print("VTK", vtk.vtkVersion.GetVTKVersion(), "SimpleITK", SimpleITK.__version__)
voxel = (3, 2, 1)
quarter, half = [0, -1, 0, 1, 0, 0, 0, 0, 1], [-1, 0, 0, 0, -1, 0, 0, 0, 1]


def by_vtk(name):
    reader = vtk.vtkMetaImageReader()
    reader.SetFileName(name)
    reader.Update()
    point = [0.0, 0.0, 0.0]
    reader.GetOutput().TransformIndexToPhysicalPoint(*voxel, point)
    return point


def by_itk(name):
    return [round(value, 6) for value in SimpleITK.ReadImage(name).TransformIndexToPhysicalPoint(voxel)]


found = {}
for turn, direction in (("a quarter", quarter), ("half", half)):
    image = SimpleITK.Image((6, 5, 4), SimpleITK.sitkUInt8)
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((10, 20, 30))
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, "itk.mha")
    other = vtk.vtkImageData()
    other.SetDimensions(6, 5, 4)
    other.SetSpacing(1, 2, 3)
    other.SetOrigin(10, 20, 30)
    other.SetDirectionMatrix(direction)
    other.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    other.GetPointData().GetScalars().Fill(0)
    writer = vtk.vtkMetaImageWriter()
    writer.SetInputData(other)
    writer.SetFileName("vtk.mha")
    writer.Write()
    for name in ("itk.mha", "vtk.mha"):
        line = next(line for line in Path(name).read_bytes().splitlines() if line.startswith(b"TransformMatrix"))
        found[turn, name] = by_itk(name), by_vtk(name)
        print(f"turned by {turn}, {name}: {line.decode()}; SimpleITK {found[turn, name][0]}, VTK {found[turn, name][1]}")
true, false, same = [6, 23, 33], [14, 17, 33], [7, 16, 33]
sys.exit(
    found
    != {
        ("a quarter", "itk.mha"): (true, false),
        ("a quarter", "vtk.mha"): (false, true),
        ("half", "itk.mha"): (same, same),
        ("half", "vtk.mha"): (same, same),
    }
)
PYTHON
