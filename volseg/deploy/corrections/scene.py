"""A scene of 3D Slicer (.mrml) that opens an image and its segmentation, with its names and colours, in one go."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from volseg.files import atomic

_VIEWS = ("Red", "Yellow", "Green")


def write_scene(path: Path, *, name: str, images: list[str], segmentation: str) -> None:
    """Write a scene beside the files that it names.

    The nodes and the roles of their references are those of Slicer's vtkMRMLSegmentationNode and vtkMRMLVolumeNode.
    Names, colours and codes of the segments are in the segmentation itself.

    Args:
        path: `KEY.mrml`.
        name: Name of the image in Slicer.
        images: File names of the image's channels; the first is shown and the segmentation is drawn on its grid.
        segmentation: File name of the segmentation.
    """
    root = ElementTree.Element("MRML", version="Slicer5.8", userTags="")
    first = "vtkMRMLScalarVolumeNode1"
    for view in _VIEWS:
        ElementTree.SubElement(
            root,
            "SliceComposite",
            id=f"vtkMRMLSliceCompositeNode{view}",
            name="SliceComposite",
            singletonTag=view,
            layoutName=view,
            backgroundVolumeID=first,
            linkedControl="1",
        )
    for number, file in enumerate(images, start=1):
        volume, display = f"vtkMRMLScalarVolumeNode{number}", f"vtkMRMLScalarVolumeDisplayNode{number}"
        storage = f"vtkMRMLVolumeArchetypeStorageNode{number}"
        ElementTree.SubElement(root, "VolumeArchetypeStorage", id=storage, fileName=file, centerImage="0")
        ElementTree.SubElement(
            root,
            "VolumeDisplay",
            id=display,
            colorNodeID="vtkMRMLColorTableNodeGrey",
            autoWindowLevel="1",
            visibility="true",
        )
        called = name if len(images) == 1 else f"{name} {number}"
        references = f"display:{display};storage:{storage};"
        ElementTree.SubElement(root, "Volume", id=volume, name=called, references=references)
    ElementTree.SubElement(
        root, "SegmentationStorage", id="vtkMRMLSegmentationStorageNode1", fileName=segmentation, useCompression="1"
    )
    ElementTree.SubElement(
        root,
        "SegmentationDisplay",
        id="vtkMRMLSegmentationDisplayNode1",
        visibility="true",
        Visibility2DFill="true",
        Visibility2DOutline="true",
    )
    references = (
        "display:vtkMRMLSegmentationDisplayNode1;storage:vtkMRMLSegmentationStorageNode1;"
        f"referenceImageGeometryRef:{first};"
    )
    ElementTree.SubElement(
        root, "Segmentation", id="vtkMRMLSegmentationNode1", name=f"{name} segmentation", references=references
    )
    ElementTree.indent(root, " ")
    with atomic(path) as partial:
        partial.write_bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n")
