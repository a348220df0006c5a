"""Whether images by URL are fetched, and within which bounds: what is written, what is had."""

from __future__ import annotations

from aiclient2api.config import FetchImages, report
from tests.config_fakes import ConfigTestCase


class FetchImagesTests(ConfigTestCase):
    """The key `fetch_images`."""

    def test_on_and_off(self) -> None:
        """true and false alone, also in quotes and in any spelling of the key."""
        for value, enabled in ((True, True), ("true", True), (False, False), (None, False)):
            for name in ("fetch_images", "FETCH_IMAGES", "fetchImages"):
                found = self.load({name: value})
                self.assertEqual(found.fetch_images, FetchImages(enabled=enabled))
                self.assertEqual(found.warnings, ())

    def test_bounds(self) -> None:
        """An object sets bounds as well; what it does not say keeps its default."""
        found = self.load({"fetch_images": {"enabled": True, "bytes": "5000", "SECONDS": 3}})
        self.assertEqual(found.fetch_images, FetchImages(True, 5000, 3))
        self.assertEqual(found.warnings, ())
        found = self.load({"fetch_images": {"enabled": True}})
        self.assertEqual(found.fetch_images, FetchImages(enabled=True))
        found = self.load({"fetch_images": {"enabled": False, "seconds": 3}})
        self.assertEqual(found.fetch_images, FetchImages(seconds=3))

    def test_bounds_alone_turn_nothing_on(self) -> None:
        """Nothing is fetched before somebody says so, and whoever only set bounds is told."""
        for value in ({}, {"bytes": 5}, {"enabled": None}):
            found = self.load({"fetch_images": value})
            self.assertFalse(found.fetch_images.enabled)
            self.assertWarned(found, "config.json: fetch_images: ", '"enabled": true')

    def test_faults(self) -> None:
        """Every fault is told at once; a clock of 0 would be none, and is one of them."""
        for value in (3, "yes", [True], ""):
            self.assertFault({"fetch_images": value}, "config.json: fetch_images: is", "true or")
        body = {"enabled": "maybe", "bytes": 0, "seconds": 0, "byts": 1}
        found = self.faults({"fetch_images": body})
        self.assertEqual(
            [fault.split(": ")[1] for fault in found],
            ["fetch_images.enabled", "fetch_images.bytes", "fetch_images.seconds"],
        )
        for seconds in (2.5, 3601, "long"):
            timed = {"enabled": True, "seconds": seconds}
            self.assertFault({"fetch_images": timed}, "fetch_images.seconds: is", "write a")
        found_anyway = self.load({"fetch_images": {"enabled": True, "byts": 1}})
        self.assertWarned(found_anyway, 'fetch_images."byts"', 'did you mean "bytes"?')

    def test_report(self) -> None:
        """``check`` says so where they are fetched."""
        text = report(self.load({"fetch_images": True}))
        self.assertIn("images by URL     fetched, up to 20971520 bytes in 15 s", text)
        self.assertNotIn("images by URL", report(self.load({})))
