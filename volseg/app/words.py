"""What the page says before anything is uploaded, as HTML: whatever comes from the network's recipe is escaped."""

from __future__ import annotations

from html import escape

from volseg.recipe import Recipe

_MANY = 12  # regions that are listed


def title(recipe: Recipe) -> str:
    """Of the window, as plain text."""
    return f"volseg demo: {_regions(recipe)}"


def heading(recipe: Recipe) -> str:
    """What is segmented, from what, and what it is not for."""
    channels = ", ".join(recipe.channel_names)
    return (
        f'<header class="demo"><h1>Segmentation of {escape(_regions(recipe))}</h1><p>Input: {escape(channels)}. For '
        "research only: not a medical device, and nothing here is fit for diagnosis or treatment.</p></header>"
    )


def intro_text(recipe: Recipe, *, cases: bool) -> str:
    """What can be uploaded and what comes back.

    Args:
        recipe: of the network.
        cases: whether cases can be picked.
    """
    regions = "".join(
        f'<li><span class="swatch" style="background:rgb{region.colour}"></span>'
        f"{escape(region.name.replace('_', ' '))}</li>"
        for region in recipe.labels.regions[:_MANY]
    )
    grid = " × ".join(f"{mm:g}" for mm in recipe.spacing_mm)
    channels = len(recipe.channel_names)
    takes = "one channel" if channels == 1 else f"{channels} channels, as KEY_0000.nii.gz and so on in one zip"
    more = " A case of the cohort is also compared with its reference." if cases else ""
    return (
        '<section class="intro"><h2>What to upload</h2><ul>'
        f"<li>a NIfTI file (.nii, .nii.gz); the network takes {takes}</li>"
        "<li>a zip of the DICOM files of one series</li>"
        "<li>a zip of PNG slices called slice_0001_266_266_1.50_1.50.png and so on</li>"
        "<li>one PNG, JPEG or TIFF image</li></ul>"
        "<h2>What comes back</h2><p>Contours on every slice, a 3D view, the volume of each region, and files to "
        f"download, on the grid of the upload. The network works at {grid} mm.{more}</p>"
        f'<ul class="regions">{regions}</ul></section>'
    )


def note(max_bytes: int, *, local: bool) -> str:
    """What becomes of an upload.

    >>> note(2**20, local=True)
    '<p class="note">What you upload stays on this computer; it is deleted when you close the page. At most 1 MiB.</p>'
    """
    where = (
        "What you upload stays on this computer"
        if local
        else "What you upload goes to the computer that runs this page, so take out what names a person before"
    )
    return f'<p class="note">{where}; it is deleted when you close the page. At most {max_bytes / 2**20:g} MiB.</p>'


def _regions(recipe: Recipe) -> str:
    names = [name.replace("_", " ") for name in recipe.labels.names]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
