"""Names of collections."""

from __future__ import annotations

import pytest

from repos import collections


def test_the_scheme() -> None:
    run = collections.output_run("LSSTCam", "2026-01-02", "ApPipe", "d123")
    assert run == "LSSTCam/prompt/output-2026-01-02/ApPipe/d123"
    assert collections.output_chain("LSSTCam", "2026-01-02") == "LSSTCam/prompt/output-2026-01-02"
    assert collections.preload_run("LSSTCam", "2026-01-02", "d123") == (
        "LSSTCam/prompt/output-2026-01-02/NoPipeline/d123"
    )
    assert collections.raw_run("LSSTCam") == "LSSTCam/raw/all"
    assert collections.calib_collection("LSSTCam") == "LSSTCam/calib"
    assert collections.templates_collection("LSSTCam") == "LSSTCam/templates"
    assert collections.defaults_collection("LSSTCam") == "LSSTCam/defaults"
    assert (collections.REFCATS, collections.SKYMAPS) == ("refcats", "skymaps")


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/a/b/ApPipe.yaml", "ApPipe"),
        ("ApPipe.yaml#isr,calibrate", "ApPipe"),
        ("a.b/Single.Frame.yaml", "Single.Frame"),
    ],
)
def test_stems(path: str, stem: str) -> None:
    assert collections.pipeline_stem(path) == stem
