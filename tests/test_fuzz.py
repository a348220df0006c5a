"""
The fuzzer, briefly: a few cases of each target, the same ones each time.

``python -m tests.fuzz`` runs for as long as one likes; see there.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.web import channel
from tests import fuzz, fuzz_http

CASES = {"huge_answers": 0, "deep_json": 3, "requests": 40, "hub": 5}
"""How many cases of a target are run here where it is not `USUAL`."""
USUAL = 20


class FuzzTests(SynchronousTestCase):
    """Every target there is."""

    def test_a_few_cases_of_each(self) -> None:
        """None raises what it must not, breaks its law, or takes too long or too much."""
        for name in fuzz.TARGETS:
            for number in range(CASES.get(name, USUAL)):
                wrong = fuzz.run(name, f"bin/test-{number}")
                self.assertIsNone(wrong, f"python -m tests.fuzz --case {name} bin/test-{number}")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_it_would_notice(self) -> None:
        """A door without its rules does not stand long."""
        for rule in ("field_is_good", "head_is_good", "target_is_good"):
            patched = self.patch(channel, rule, lambda *told: True)
            found = (fuzz.run("requests", f"bin/test-{number}") for number in range(150))
            self.assertTrue(any(found), rule)
            patched.restore()

    def test_the_other_reader(self) -> None:
        """h11 reads out of a connection what stands there, and says why it stopped."""
        one = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"
        self.assertEqual(
            fuzz_http.read_by_h11(one + b"GET /q HTTP/1.0\r\n\r\n" + one),
            ([(b"POST", b"/p", b"ok"), (b"GET", b"/q", b"")], "it closes"),
        )
        self.assertEqual(fuzz_http.read_by_h11(one[:-1])[0], [])
        self.assertIn("bad Content-Length", fuzz_http.read_by_h11(one.replace(b"2", b"x"))[1])
