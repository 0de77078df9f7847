"""A page in a real browser: whatever it says on its console fails the test."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def chromium(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM
    place = f"--user-data-dir={page.parent / 'profile'}"
    usual = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *QUIET, place)
    command = [CHROMIUM, *usual, "--allow-file-access-from-files", *words, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done


def after(page: Path, script: str, *words: str) -> Any:  # noqa: ANN401 - what the script returns
    """What an async script returns when it runs in the page."""
    probe = page.with_name("probe.html")
    told = "document.documentElement.dataset.told = JSON.stringify(await (async () => {%s})())"
    added = f"<script>window.addEventListener('load', async () => {{ {told % script} }})</script>"
    probe.write_text(page.read_text().replace("</body>", f"{added}</body>"))
    done = chromium(probe, "--dump-dom", "--virtual-time-budget=20000", *words)
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found, done.stdout[-2000:]
    return json.loads(html.unescape(found[1]))


def serious(page: Path, scheme: str) -> list[Any]:
    """What axe-core calls serious or critical, in a light or a dark scheme."""
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    probe = page.with_name("axe.html")
    allowed = page.read_text()
    if "script-src" not in allowed:  # a page without scripts of its own has to allow the probe's
        allowed = allowed.replace("'unsafe-inline'\">", "'unsafe-inline'; script-src 'unsafe-inline'\">", 1)
    probe.write_text(allowed.replace("</head>", f"<script>{axe}</script></head>"))
    words = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    script = """
        const found = await axe.run();
        return found.violations.filter(one => ["serious", "critical"].includes(one.impact))
            .map(one => [one.id, one.nodes.map(node => node.html.slice(0, 120)).slice(0, 3)]);
    """
    found: list[Any] = after(probe, script, *words)
    return found


def scrolled(page: Path, width: int, script: str = "return 0;") -> Any:  # noqa: ANN401 - what the script returns
    """How wide a page is in a frame of some width, and what a script finds in it (``inner``)."""
    framed = page.with_name("framed.html")
    frame = f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe>'
    framed.write_text(f"<!doctype html><html><body>{frame}</body></html>")
    whole = f"""
        const inner = document.querySelector("iframe").contentDocument;
        const found = (() => {{{script}}})();
        return [inner.documentElement.scrollWidth, found];
    """
    return after(framed, whole, f"--window-size={width + 100},1000")
