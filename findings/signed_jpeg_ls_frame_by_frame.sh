#!/bin/sh
# A CT in JPEG-LS with signed values of 12 bits, as archives store it, decoded by GDCM, which pydicom takes before others.
# pydicom's pixel_array mends the sign of the values, which JPEG-LS does not keep; iter_pixels, which gives the frames one by
# one, writes the mended values into memory that is read-only and ends with a ValueError.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydicom==3.0.2 pyjpegls==1.5.1 python-gdcm==3.2.6 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import iter_pixels
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

print("pydicom", pydicom.__version__)
failed = []
stored = (np.arange(64, dtype=np.int16).reshape(8, 8) * 40) - 1000
for bits in (16, 12):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Rows = one.Columns = 8
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, bits, bits - 1, 1
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.PixelData = stored.tobytes()
    one["PixelData"].VR = "OW"
    one.compress(JPEGLSLossless)
    one.save_as("one.dcm", enforce_file_format=True)
    print(bits, "bits, pixel_array right:", np.array_equal(pydicom.dcmread("one.dcm").pixel_array, stored))
    try:
        (frame,) = iter_pixels("one.dcm")
        print(bits, "bits, iter_pixels right:", np.array_equal(frame, stored))
    except ValueError as error:
        print(bits, "bits, iter_pixels:", error)
        failed.append(bits)
raise SystemExit(failed != [12])
PYTHON
