#!/bin/sh
# An image whose value at each voxel is its place in millimetres, made coarser: the values then lie elsewhere than the header says.
# SimpleITK's Shrink by 2 is off by half a voxel along axes of an even number of voxels, and right along odd ones. MedPy's
# resample and TotalSegmentator's change_spacing keep the centres of the first and the last voxel and write the spacing
# that was asked for, so from 1 to 3 mm the far side is off by up to 2 mm. SimpleITK's BinShrink and [::2], and nibabel, are right.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 MedPy==0.5.2 nibabel==5.4.2 scipy==1.17.1 joblib==1.6.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --no-deps TotalSegmentator==2.18.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
import medpy.filter, medpy.io.header, nibabel, nibabel.processing, numpy as np, SimpleITK
from totalsegmentator.resampling import change_spacing

print(*(f"{name} {version(name)}" for name in ("SimpleITK", "MedPy", "nibabel", "TotalSegmentator", "numpy")))
shape = (90, 60, 31)
along_x, along_z = (np.indices(shape)[axis].astype(np.float32) for axis in (0, 2))
found = {}


def off(values, axis, spacing):
    """The largest distance between value and place along the middle of the image, without the voxels at both ends."""
    values = np.moveaxis(np.asarray(values), axis, 0)
    line = values[:, values.shape[1] // 2, values.shape[2] // 2]
    return round(float(np.abs(line - spacing * np.arange(len(line)))[1:-1].max()), 2)


def by_itk(name, transform):
    for axis, place in (("X, 90 voxels", along_x), ("Z, 31 voxels", along_z)):
        image = transform(SimpleITK.GetImageFromArray(place.T))
        number = "XYZ".index(axis[0])
        values = SimpleITK.GetArrayFromImage(image).T - image.GetOrigin()[number]
        found[f"{name}, {axis}"] = off(values, number, image.GetSpacing()[number])


by_itk("SimpleITK Shrink by 2", lambda image: SimpleITK.Shrink(image, (2, 2, 2)))
by_itk("SimpleITK BinShrink by 2", lambda image: SimpleITK.BinShrink(image, (2, 2, 2)))
by_itk("SimpleITK [::2]", lambda image: image[::2, ::2, ::2])
header = medpy.io.header.Header(spacing=(1, 1, 1), sitkimage=SimpleITK.GetImageFromArray(along_x.T))
values, header = medpy.filter.resample(along_x, header, (3, 3, 3), bspline_order=1)
found["MedPy resample to 3 mm"] = off(values, 0, header.get_voxel_spacing()[0])
image = nibabel.Nifti1Image(along_x, np.eye(4))
for name, made in (
    ("TotalSegmentator change_spacing to 3 mm", change_spacing(image, 3.0, order=1)),
    ("nibabel resample_to_output to 3 mm", nibabel.processing.resample_to_output(image, 3, order=1)),
):
    found[name] = off(made.get_fdata() - made.affine[0, 3], 0, made.affine[0, 0])
for name, distance in found.items():
    print(f"{name}: off by up to {distance} mm")
sys.exit(list(found.values()) != [0.5, 0, 0, 0, 0, 0, 1.93, 1.93, 0])
PYTHON
