"""What systemd is told, if it asked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.notify import VARIABLE, notify


class NotifyTests(SynchronousTestCase):
    """`notify`."""

    def test_it_is_told(self) -> None:
        """At a path, or at an abstract name."""
        path = Path("/tmp") / f"aiclient2api-{os.getpid()}.notify"
        self.addCleanup(path.unlink, missing_ok=True)
        for address, name in ((str(path), str(path)), (f"@{path.name}", f"\0{path.name}")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
                systemd.bind(name)
                systemd.settimeout(5)
                notify({VARIABLE: address}, "READY=1", "MAINPID=7")
                self.assertEqual(systemd.recv(100), b"READY=1\nMAINPID=7")

    def test_nobody_asked(self) -> None:
        """Or nobody is there any more, or the name is none: nothing happens."""
        for environ in ({}, {VARIABLE: "/nowhere/socket"}, {VARIABLE: "nonsense"}, {VARIABLE: ""}):
            notify(environ, "READY=1")
