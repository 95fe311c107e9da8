"""A run of the demo: network and cohort loaded, the page served, everything deleted at the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from volseg.bundle import tell_networks
from volseg.cohort import Cohort
from volseg.deploy.demo.segmentation import Segmentation, Segmenter
from volseg.deploy.demo.server import address, is_local, listen, make_app, serve
from volseg.deploy.demo.session import Visits
from volseg.inference import Predictor, with_own_calibration


class Ready(Protocol):
    """Function that is called once the page can be opened."""

    def __call__(self, url: str, *, local: bool) -> None:
        """Report the address, and whether only this computer reaches it."""


def run(
    bundle: str | Path,
    *,
    checkpoint: Path | None = None,
    cohort: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: Collection[str] = (),
    max_mb: float = 512,
    device: str | None = None,
    engine: str = "torch",
    axes: str | None = None,
    framed_by: str = "'self'",
    ready: Ready | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        bundle: Name or folder of the bundle.
        checkpoint: File of the weights; the bundle's default otherwise.
        cohort: Cohort whose cases can be picked.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        names: Names by which browsers may call this computer; see `make_app`.
        max_mb: Largest upload in MiB.
        device: `cpu`, `cuda:1`, ...; the best otherwise.
        engine: `torch`, `openvino` or `auto`.
        axes: Directions of uploaded slices and images, see `Segmenter`.
        framed_by: Sites that may show the page in a frame, as in the header Content-Security-Policy.
        ready: Function that is called once the page can be opened.

    Raises:
        VolsegError: The bundle, checkpoint, cohort or address cannot be used.
    """
    opened = None if cohort is None else Cohort.open(cohort)
    with listen(host, port) as listening:
        loaded = Predictor.from_bundle(bundle, checkpoint=checkpoint, device=device)
        predictor = with_own_calibration(loaded).with_engine(engine)
        tell_networks(predictor.networks, opened)
        segmenter = Segmenter(predictor, opened, axes=axes)
        visits: Visits[Segmentation] = Visits()
        # Without this SIGTERM ends Python at once, and the uploads stay.
        before = signal.signal(signal.SIGTERM, _end)
        try:
            local = is_local(host)
            size = round(max_mb * 2**20)
            app = make_app(segmenter, visits, max_bytes=size, local=local, names=names, framed_by=framed_by)
            if ready is not None:
                ready(address(listening), local=local)
            serve(app, listening)
        finally:
            visits.close()
            signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    sys.exit(0)
