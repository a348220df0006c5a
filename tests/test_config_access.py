"""
Who may call, and from where: listeners, keys and origins as a user configures them.
"""

from __future__ import annotations

from aiclient2api.config.access import PUBLISHED_KEYS
from tests.config_fakes import ConfigTestCase


class ListenTests(ConfigTestCase):
    """host, port and listen."""

    def test_host_and_port(self) -> None:
        """They make one listener; a flag changes its half only."""
        body = {"host": "::1", "port": "0"}
        self.assertEqual(self.load(body).listen, (r"tcp:0:interface=\:\:1",))
        found = self.load(body, flags={"port": "81"})
        self.assertEqual(found.listen, (r"tcp:81:interface=\:\:1",))

    def test_listen_wins(self) -> None:
        """listen, a text or a list, is used instead, and the user is told."""
        both = ["tcp:1:interface=127.0.0.1", "unix:/run/s", "unix:/run/s"]
        found = self.load({"listen": both, "port": 3000})
        self.assertEqual(found.listen, tuple(both[:2]))
        self.assertWarned(found, "config.json: port: is not used")
        self.assertEqual(self.load({"listen": "unix:/run/s"}).listen, ("unix:/run/s",))

    def test_flags_win_over_the_file(self) -> None:
        """--listen wins over all of the file, and --port over its listen."""
        body = {"listen": "unix:/run/s", "host": "0.0.0.0"}
        found = self.load(body, flags={"listen": ("unix:/a", "unix:/b")})
        self.assertEqual(found.listen, ("unix:/a", "unix:/b"))
        found = self.load({"listen": "unix:/run/s"}, flags={"port": "5"})
        self.assertEqual(found.listen, ("tcp:5:interface=127.0.0.1",))

    def test_faults(self) -> None:
        """Each bad listener is told of by its place."""
        found = self.faults({"listen": ["tcp:x", "tcp:1", 7]})
        self.assertEqual([fault.split(": ")[1] for fault in found], ["listen[0]", "listen[2]"])
        self.assertFault({"listen": []}, "config.json: listen: is empty")
        self.assertFault({"host": "a b"}, "config.json: host: is")
        self.assertFault({"SERVER_PORT": 70000}, "config.json: SERVER_PORT: is 70000")


class CallerKeyTests(ConfigTestCase):
    """required_api_key."""

    def test_forms(self) -> None:
        """One key, several, none asked, none configured."""
        self.assertEqual(self.load({"required_api_key": "sk-a"}).keys, ("sk-a",))
        several = self.load({"required_api_key": ["sk-a", "sk-b", "sk-a"]})
        self.assertEqual(several.keys, ("sk-a", "sk-b"))
        self.assertEqual(self.load({"required_api_key": ""}).keys, ())
        self.assertIsNone(self.load({"required_api_key": None}).keys)

    def test_faults(self) -> None:
        """What cannot be a key is a fault, and is not repeated."""
        for wrong in ("two words", "clé", 123456, {"a": 1}):
            self.assertFault({"required_api_key": wrong}, "required_api_key: ")
        self.assertNotIn("two", str(self.faults({"required_api_key": "two words"})))
        self.assertFault({"required_api_key": []}, "is an empty list")
        self.assertFault({"required_api_key": ["sk-a", ""]}, "required_api_key[1]: is empty")
        self.assertEqual(len(self.faults({"required_api_key": ["a b", None]})), 2)

    def test_environment(self) -> None:
        """A key may come from the environment or from a file named there."""
        body = {"required_api_key": "sk-file"}
        secret = {"AICLIENT2API_KEY_FILE": str(self.write("keys", "sk-a\n\nsk-b\n"))}
        plain = {**secret, "AICLIENT2API_KEY": "sk-env"}
        self.assertEqual(self.load(body, environ=secret).keys, ("sk-a", "sk-b"))
        self.assertEqual(self.load(body, environ=plain).keys, ("sk-env",))
        flags = {"required_api_key": "sk-flag"}
        self.assertEqual(self.load(body, environ=plain, flags=flags).keys, ("sk-flag",))

    def test_a_key_file_must_be_good(self) -> None:
        """A key file that is missing, empty or no text never leaves the door open."""
        body = {"required_api_key": "sk-file"}
        for content in (None, " \n", b"\xff"):
            if content is not None:
                self.write("keys", content)
            self.assertFault(
                body, "AICLIENT2API_KEY_FILE: ", environ={"AICLIENT2API_KEY_FILE": "keys"}
            )


class ExposureTests(ConfigTestCase):
    """Beyond this machine."""

    def test_open_to_all(self) -> None:
        """An open server is refused beyond loopback and warned of on it."""
        for where in ({"host": "0.0.0.0"}, {"listen": ["unix:/s", "tcp:1"]}, {"host": "h.example"}):
            self.assertFault({"required_api_key": "", **where}, "reached from other", "openssl")
        found = self.load({"required_api_key": ""})
        self.assertWarned(found, "required_api_key: is empty")

    def test_published_keys(self) -> None:
        """A key from somebody's manual is refused beyond loopback, warned of on it."""
        for key in (*sorted(PUBLISHED_KEYS), "Your-Secret-Key"):
            self.assertFault({"required_api_key": key, "host": "::"}, "published", "openssl")
        found = self.load({"required_api_key": "123456"})
        self.assertWarned(found, "required_api_key", "published")
        mixed = {"required_api_key": ["sk-good", "123456"], "host": "0.0.0.0"}
        self.assertFault(mixed, "published")
        self.assertFault({}, "--api-key: ", flags={"required_api_key": "123456", "host": "::"})

    def test_good_keys(self) -> None:
        """With a key of one's own, or one that is made, it may listen anywhere."""
        self.assertEqual(self.load({"host": "0.0.0.0", "required_api_key": "sk-0"}).warnings, ())
        self.assertIsNone(self.load({"host": "0.0.0.0"}).keys)


class OriginTests(ConfigTestCase):
    """cors_origins."""

    def test_forms(self) -> None:
        """A list, or one text with commas."""
        both = ("https://a.example", "http://localhost:1")
        self.assertEqual(self.load({"cors_origins": list(both)}).cors_origins, both)
        self.assertEqual(self.load({"corsOrigins": ", ".join(both)}).cors_origins, both)
        self.assertEqual(self.load({"cors_origins": []}).cors_origins, ())

    def test_every_page_of_an_open_gateway(self) -> None:
        """Whoever writes both is told what it means; either alone is nothing new."""
        both = self.load({"required_api_key": "", "cors_origins": "*"}).warnings
        self.assertIn("every web page", " ".join(both))
        for config in ({"required_api_key": ""}, {"required_api_key": "sk-0", "cors_origins": "*"}):
            self.assertNotIn("every web page", " ".join(self.load(config).warnings))

    def test_faults(self) -> None:
        """Each bad origin is told of."""
        found = self.faults({"cors_origins": ["a.example", "https://a.example/x", 5]})
        self.assertEqual(len(found), 3)
        self.assertIn("config.json: cors_origins[0]: ", found[0])
