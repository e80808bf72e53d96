"""What a real browser finds wrong with a page: headless Chromium, asked by its DevTools protocol over two pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = {"desk": 1280, "phone": 390}
TIMEOUT_S = 60
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
)
_MEASURE = """({
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt || i.src.slice(0, 80)),
    width: document.documentElement.scrollWidth,
})"""


def problems_of_page(path: Path, screenshots: Path | None = None) -> list[str]:
    """Everything that is wrong with an HTML file at desktop and at phone width; skips the test without a browser.

    Wrong are: an image that is not shown, a page wider than the window, a message or error in the console, and any
    request but for the page itself. ``screenshots``: a folder that gets a picture of the whole page at each width, in
    light and dark colours.
    """
    command = next(filter(None, map(shutil.which, BROWSERS)), None)
    if command is None:
        pytest.skip(f"no browser found: none of {', '.join(BROWSERS)} is installed")
    problems = []
    with _browser(command) as browser:
        for name, width in WIDTHS.items():
            problems += [f"{name}: {problem}" for problem in browser.visit(path.resolve().as_uri(), width)]
            if screenshots is not None:
                for scheme in ("light", "dark"):
                    (screenshots / f"{path.stem}-{name}-{scheme}.png").write_bytes(browser.screenshot(scheme))
    return problems


class _Browser:
    """One tab of a browser that reads commands from one pipe and answers on another, JSON ended by zero bytes."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd, self._read_fd = write_fd, read_fd
        self._unread = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def visit(self, url: str, width: int) -> list[str]:
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self._events.clear()
        self._ask("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())
        found = self._ask("Runtime.evaluate", expression=_MEASURE, returnByValue=True)["result"]["value"]
        problems = [f"the image {name!r} is not shown" for name in found["broken"]]
        if found["width"] > width:
            problems.append(f"the page is {found['width']} pixels wide, {found['width'] - width} too many")
        return problems + [problem for event in self._events for problem in _told_by(event, url)]

    def screenshot(self, scheme: str) -> bytes:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", features=features)
        return base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._events.append(answer)

    def _receive(self) -> dict[str, Any]:
        until_s = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read_fd], [], [], until_s - time.monotonic())
            assert ready, f"the browser is silent for {TIMEOUT_S} s"
            received = os.read(self._read_fd, 1 << 20)
            assert received, "the browser has ended"
            self._unread += received
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


def _told_by(event: dict[str, Any], url: str) -> list[str]:
    parameters = event["params"]
    if event["method"] == "Runtime.consoleAPICalled":
        return [f"console: {[argument.get('value') for argument in parameters['args']]}"]
    if event["method"] == "Runtime.exceptionThrown":
        return [f"error: {parameters['exceptionDetails']['text']}"]
    if event["method"] == "Log.entryAdded":
        return [f"log: {parameters['entry']['text']}"]
    if event["method"] == "Network.requestWillBeSent":
        requested = parameters["request"]["url"]
        return [] if requested == url or requested.startswith("data:") else [f"it asks for {requested}"]
    return []


@contextmanager
def _browser(command: str) -> Iterator[_Browser]:
    """A browser with a profile of its own, ended with the block."""
    its_read_fd, write_fd = os.pipe()
    read_fd, its_write_fd = os.pipe()
    # The protocol's pipes are file descriptors 3 and 4; Chromium's sandbox refuses to work for root.
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else _FLAGS
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{its_read_fd} 4>&{its_write_fd}',
                "bash",
                command,
                *flags,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(its_read_fd, its_write_fd),
            stderr=subprocess.DEVNULL,
        )
        os.close(its_read_fd)
        os.close(its_write_fd)
        try:
            yield _Browser(write_fd, read_fd)
        finally:
            os.close(write_fd)  # at which it ends
            os.close(read_fd)
            process.kill()
            process.wait(TIMEOUT_S)
