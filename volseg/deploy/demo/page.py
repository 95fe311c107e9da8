"""The page of the demo: Gradio's layout and the action of each event; the answers are made elsewhere."""

# Gradio reads annotations to find functions that take the request, so they are no strings here.
import logging
import shutil
from html import escape
from pathlib import Path
from typing import Any

from volseg.bundle import Recipe
from volseg.deploy.demo import answer
from volseg.deploy.demo.abandon import LeftError
from volseg.deploy.demo.segmentation import Segmentation, Segmenter
from volseg.deploy.demo.session import Visit, Visits
from volseg.deploy.demo.slices import PARTS
from volseg.deploy.demo.upload import receive
from volseg.errors import UsageError, VolsegError
from volseg.pictures import PLANES, Plane

_MANY = 12  # largest number of regions that are listed


def title(recipe: Recipe) -> str:
    """The title of the window, as plain text."""
    return f"volseg demo: {_regions(recipe)}"


def heading(recipe: Recipe) -> str:
    """The heading: what is segmented, from what, and what it is not for."""
    channels = ", ".join(recipe.image_channels)
    return (
        f'<header class="demo"><h1>Segmentation of {escape(_regions(recipe))}</h1><p>Input: {escape(channels)}. For '
        "research only: not a medical device, and nothing here is fit for diagnosis or treatment.</p></header>"
    )


def intro_text(recipe: Recipe, *, cases: bool) -> str:
    """The introduction: what can be uploaded and what is returned.

    Args:
        recipe: Recipe of the network.
        cases: Whether cases can be picked.
    """
    regions = "".join(
        f'<li><span class="swatch" style="background:rgb{region.colour}"></span>'
        f"{escape(region.name.replace('_', ' '))}</li>"
        for region in recipe.labels.regions[:_MANY]
    )
    grid = " × ".join(f"{mm:g}" for mm in recipe.spacing_mm)
    channels = len(recipe.image_channels)
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
    """The note on what happens to an upload.

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


logger = logging.getLogger(__name__)

_INFLATION = 8  # a zip may unpack to this many times the largest upload
_FORGET_S = (600, 3600)  # seconds between searches for uploads that no visit has taken, and their age


def build(segmenter: Segmenter, visits: Visits[Segmentation], *, max_bytes: int, local: bool) -> Any:  # noqa: ANN401
    """Build the page.

    Args:
        segmenter: Network, and the cohort if there is one.
        visits: Visits, which keep uploads and results.
        max_bytes: Largest size of an upload in bytes.
        local: Whether only this computer can see the page; the note on uploads depends on it.

    Returns:
        `gradio.Blocks`.
    """
    import gradio as gr

    cohort = segmenter.cohort
    bare: dict[str, Any] = {"apply_default_css": False, "padding": False}

    with gr.Blocks(title=title(segmenter.predictor.recipe), analytics_enabled=False, delete_cache=_FORGET_S) as page:
        gr.HTML(heading(segmenter.predictor.recipe), **bare)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=2, min_width=300):
                source = gr.File(label="Your volume or image", height=150, elem_id="upload")
                case = gr.Dropdown(
                    list(cohort.keys) if cohort else [],
                    value=None,
                    label=f"Or a case of {cohort.folder.name}" if cohort else "Case",
                    visible=cohort is not None,
                    elem_id="case",
                )
                start = gr.Button("Segment", variant="primary", elem_id="segment")
                told = gr.HTML(elem_id="told", **bare)
                links = gr.HTML(elem_id="links", **bare)
                gr.HTML(note(max_bytes, local=local), **bare)
            with gr.Column(scale=5, min_width=320):
                intro = gr.HTML(
                    intro_text(segmenter.predictor.recipe, cases=cohort is not None), elem_id="intro", **bare
                )
                with gr.Column(visible=False, elem_id="result") as result:
                    headline = gr.HTML(**bare)
                    with gr.Tabs():
                        with gr.Tab("Slices"):
                            with gr.Row(elem_id="choices"):
                                plane = gr.Radio(
                                    list(PLANES), value=PLANES[0], label="Plane", show_label=False, elem_id="plane"
                                )
                                parts = gr.CheckboxGroup(
                                    list(PARTS), value=list(PARTS), show_label=False, elem_id="parts"
                                )
                            picture = gr.HTML(elem_id="picture", **bare)
                            number = gr.Slider(1, 2, value=1, step=1, label="Slice", elem_id="slice", buttons=[])
                            legend = gr.HTML(**bare)
                        with gr.Tab("3D", elem_id="tab-3d"):
                            volume = gr.HTML(elem_id="volume", **bare)
                    table = gr.HTML(elem_id="table", **bare)

        async def as_it_is(path: str | None) -> str | None:
            return path

        # Gradio's own preprocessing would fetch a URL that a request names instead of a file.
        source.async_move_resource_to_block_cache = as_it_is

        def take(path: str | None, request: gr.Request) -> tuple[Any, ...]:
            visitor = _visitor(request)
            name = Path(path).name if path else ""
            try:
                if path:
                    visits.keep(visitor, Path(path), name=name)
            except OSError:
                return answer.problem(f"{name} is no longer there; upload it again"), gr.skip()
            return "", None

        def drop(request: gr.Request) -> None:
            visits.forget(_visitor(request))

        def pick(request: gr.Request) -> tuple[Any, ...]:
            visits.forget(_visitor(request))
            return None, ""

        def begin() -> Any:  # noqa: ANN401
            return gr.update(value="Segmenting…", interactive=False)

        def end() -> Any:  # noqa: ANN401
            return gr.update(value="Segment", interactive=True)

        def segment(key: str | None, request: gr.Request) -> dict[Any, Any]:
            visitor = _visitor(request)
            if visits.has_left(visitor):  # while others were served
                return {told: ""}
            visit = visits.of(visitor)
            try:
                found = _segment(visit, segmenter, key, max_bytes=max_bytes)
                case_view = found.case_view(found.plane)
            except LeftError:
                logger.info("a visitor has left; the segmentation was stopped")
                return {told: ""}
            except VolsegError as error:
                reason = error.message.replace(f"{visit.folder}/", "")
                return {told: answer.problem(reason), links: "", result: gr.update(visible=False)}
            except Exception as error:
                logger.exception("a segmentation failed")
                fault = f"This did not work ({type(error).__name__}), by no fault of the file that could be told"
                return {told: answer.problem(fault), links: "", result: gr.update(visible=False)}
            finally:
                visits.settle(visit)
            shown = case_view.view.number(case_view.fullest, case_view.slices)
            there = list(PARTS) if found.reference is not None else [PARTS[0]]
            return {
                told: "",
                intro: gr.update(visible=False),
                result: gr.update(visible=True),
                links: answer.downloads(found, visit.token),
                headline: answer.headline(found),
                plane: gr.update(value=found.plane, visible=not found.flat),
                parts: gr.update(choices=there, value=there),
                picture: answer.slice_picture(case_view, case_view.fullest, parts=there),
                number: gr.update(maximum=max(2, case_view.slices), value=shown, visible=case_view.slices > 1),
                volume: answer.viewer(found, visit.token),
                legend: answer.legend(found),
                table: answer.table(found),
            }

        def turn(to: Plane, over: list[str], request: gr.Request) -> tuple[Any, ...]:
            found = visits.of(_visitor(request)).result
            if found is None:
                return answer.problem(_GONE), gr.skip()
            case_view = found.case_view(to)
            shown = case_view.view.number(case_view.fullest, case_view.slices)
            update = gr.update(maximum=max(2, case_view.slices), value=shown, visible=case_view.slices > 1)
            return answer.slice_picture(case_view, case_view.fullest, parts=over), update

        def leaf(to: int, of: Plane, over: list[str], request: gr.Request) -> str:
            found = visits.of(_visitor(request)).result
            if found is None:
                return answer.problem(_GONE)
            case_view = found.case_view(of)
            place = case_view.view.place(min(max(int(to), 1), case_view.slices), case_view.slices)
            return answer.slice_picture(case_view, place, parts=over)

        def leave(request: gr.Request) -> None:
            visits.leave(_visitor(request))

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        everything = [told, intro, result, links, headline, plane, parts, picture, number, volume, legend, table]
        source.upload(take, source, [told, case], **quiet)
        source.clear(drop, None, None, **quiet)
        case.input(pick, None, [source, told], **quiet)
        start.click(begin, None, start, **quiet).then(
            segment,
            case,
            everything,
            api_visibility="private",
            concurrency_limit=1,
            show_progress="full",
            show_progress_on=told,
        ).then(end, None, start, **quiet)
        plane.input(turn, [plane, parts], [picture, number], **quiet)
        for changed in (number, parts):
            changed.input(leaf, [number, plane, parts], picture, trigger_mode="always_last", **quiet)
        page.unload(leave)
    page.queue(max_size=20)
    return page


_GONE = "This result is no longer kept; segment again"


def _segment(visit: Visit[Segmentation], segmenter: Segmenter, key: str | None, *, max_bytes: int) -> Segmentation:
    """Segment a visitor's upload, else the case of the cohort; unpacked files are deleted as soon as they are read."""
    visit.result = None
    shutil.rmtree(visit.work, ignore_errors=True)
    visit.work.mkdir(parents=True)
    unpacked = visit.folder / "unpacked"
    try:
        if visit.name:
            recipe = segmenter.predictor.recipe
            size = _INFLATION * max_bytes
            upload = receive(
                visit.upload, unpacked, name=visit.name, recipe=recipe, max_bytes=size, axes=segmenter.axes
            )
            found = segmenter.segment(
                upload.key, upload.files, visit.work, what=upload.what, measured=upload.measured, left=visit.left
            )
        elif key:
            found = segmenter.case(key, visit.work, left=visit.left)
        else:
            raise UsageError("Choose a file" + (" or a case" if segmenter.cohort else "") + " first")
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    visit.result = found
    return found


def _visitor(request: Any) -> str:  # noqa: ANN401 - gradio.Request
    """The word by which Gradio distinguishes pages."""
    return str(request.session_hash)
