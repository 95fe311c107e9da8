#!/bin/sh
# A mask with a direction matrix, as oblique and sagittal images have: of VTK's filters for surfaces marching cubes, flying edges
# and surface nets put the mesh where the mask lies; the contour filter and synchronized templates leave the directions out,
# 19.5 mm away here. PyVista's contour() takes the contour filter, its contour_labels() the surface nets, so two meshes of
# one mask lie apart. A stencil from a mesh at the right place marks no voxel at all. No filter warns.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vtk==9.7.2 pyvista==0.49.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np, pyvista, vtk
from vtk.util.numpy_support import vtk_to_numpy

print("VTK", vtk.vtkVersion.GetVTKVersion(), "PyVista", pyvista.__version__, "numpy", np.__version__)
mask = np.zeros((10, 16, 12), np.uint8)
mask[2:5, 4:10, 3:7] = 1
turned = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
image = pyvista.ImageData(dimensions=(12, 16, 10), spacing=(1, 2, 3), origin=(10, 20, 30), direction_matrix=turned)
image["mask"] = mask.ravel()
true = np.array(turned) @ (np.argwhere(mask).mean(0)[::-1] * (1, 2, 3)) + (10, 20, 30)
print(f"the mask's centre lies at {true}")


def centre(mesh):
    bounds = mesh.GetBounds()
    return np.array([(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)])


away = {}
for name in ("MarchingCubes", "DiscreteMarchingCubes", "FlyingEdges3D", "DiscreteFlyingEdges3D", "SurfaceNets3D",
             "ContourFilter", "SynchronizedTemplates3D"):
    surface = getattr(vtk, "vtk" + name)()
    surface.SetInputData(image)
    surface.SetValue(0, 1 if "Discrete" in name or "Nets" in name else 0.5)
    surface.Update()
    away[name] = round(float(np.linalg.norm(centre(surface.GetOutput()) - true)), 1)
for name, mesh in (("PyVista contour()", image.contour([0.5])), ("PyVista contour_labels()", image.contour_labels())):
    away[name] = round(float(np.linalg.norm(centre(mesh) - true)), 1)
for name, value in away.items():
    print(f"{name}: {value} mm away")

edges = vtk.vtkFlyingEdges3D()
edges.SetInputData(image)
edges.SetValue(0, 0.5)
edges.Update()
marked = {}
for name in ("at its place", "without directions"):
    grid = image.copy()
    if name == "without directions":
        grid.direction_matrix = np.eye(3)
        edges.SetInputData(grid)
        edges.Update()
    stencil = vtk.vtkPolyDataToImageStencil()
    stencil.SetInputData(edges.GetOutput())
    stencil.SetInformationInput(grid)
    stencil.Update()
    full = grid.copy()
    full["mask"][:] = 1
    back = vtk.vtkImageStencil()
    back.SetInputData(full)
    back.SetStencilData(stencil.GetOutput())
    back.SetBackgroundValue(0)
    back.Update()
    marked[name] = int(vtk_to_numpy(back.GetOutput().GetPointData().GetScalars()).sum())
    print(f"stencil from the mesh {name}: {marked[name]} of {int(mask.sum())} voxels")
wrong = {name for name, value in away.items() if value}
right = {name for name, value in away.items() if not value}
sys.exit(
    wrong != {"ContourFilter", "SynchronizedTemplates3D", "PyVista contour()"}
    or len(right) != 6
    or marked != {"at its place": 0, "without directions": 72}
)
PYTHON
