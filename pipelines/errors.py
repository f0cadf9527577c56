"""Failures that an image, not the software, is to blame for."""

from __future__ import annotations

__all__ = ["CalibrationFailed", "ImageFailure", "SubtractionFailed"]

from collections.abc import Mapping

from lsst.pipe.base import AlgorithmError


class ImageFailure(AlgorithmError):
    """An image cannot be processed further; a second try ends the same way.

    Parameters
    ----------
    message : `str`
        What is wrong with which image, and what to do.
    **numbers : `float` or `int`
        What was measured, for the task's metadata.
    """

    def __init__(self, message: str, **numbers: float) -> None:
        super().__init__(message)
        self._numbers = dict(numbers)

    @property
    def metadata(self) -> Mapping[str, float | int]:
        """What was measured."""
        return self._numbers


class CalibrationFailed(ImageFailure):
    """Too few stars for a WCS, a point-spread function or a zero point."""


class SubtractionFailed(ImageFailure):
    """The template does not cover the image, or cannot be matched to it."""
