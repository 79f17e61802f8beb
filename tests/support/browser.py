"""Prefect's UI in Chromium as Debian packages it, driven by Playwright, which brings no browser of its own here."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from filelock import FileLock
from playwright.sync_api import Browser, Locator, Page, Response, ViewportSize, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
VIEWPORT = ViewportSize(width=1280, height=1000)
WITHIN_MS = 120_000
BUSY = 503
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-3d-apis",  # the graph of a run is else drawn by the processor, at the cost of a core while it is shown
    # Prefect's UI asks amplitude.com at its start, whatever the server's settings say: nothing but the server is found.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# A notice is gone after some seconds, and a busy machine looks too late.
_KEEP_WHAT_IS_TOLD = """
window.told = new Set();
new MutationObserver(() => {
  for (const notice of document.querySelectorAll('[data-sonner-toast]')) window.told.add(notice.innerText);
}).observe(document, {childList: true, subtree: true});
"""


@contextlib.contextmanager
def chromium(lock: Path) -> Iterator[Browser]:
    """Start Chromium, installed by apt at the first time; ``lock`` is a file that test processes share."""
    with FileLock(lock):
        if not CHROMIUM.exists():
            for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
                subprocess.run(["apt-get", "-qq", *arguments], check=True)  # noqa: S607 - from PATH
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser) -> Page:
    """Open a page in a profile of its own, as another person at another machine would have."""
    context = browser.new_context(viewport=VIEWPORT)
    context.set_default_timeout(WITHIN_MS)
    context.add_init_script(_KEEP_WHAT_IS_TOLD)
    return context.new_page()


def log_in(page: Page, auth: str) -> None:
    page.get_by_placeholder("admin:pass").fill(auth)
    page.get_by_role("button", name="Login").click()


@dataclass(frozen=True)
class ApprovalDialog:
    """The dialog in which Prefect's UI shows what a paused run asks."""

    page: Page
    root: Locator

    def table(self, heading: str) -> list[list[str]]:
        """Return the cells of the table below a heading, as they are rendered, the head first."""
        below = self.root.get_by_role("heading", name=heading, exact=True).locator("xpath=following-sibling::table[1]")
        cells: list[list[str]] = below.evaluate(
            "table => [...table.rows].map(row => [...row.cells].map(c => c.innerText))"
        )
        return [[" ".join(cell.split()) for cell in row] for row in cells]

    def columns(self, heading: str) -> dict[str, dict[str, str]]:
        """Return the rows of a table by their first cells, each cell by its column's head."""
        head, *rows = self.table(heading)
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}

    def cut(self) -> list[str]:
        """Return the cells of the evidence that reach beyond its edge, where they are not seen."""
        texts: list[str] = self.root.locator(".prose").evaluate(
            "all => [...all.querySelectorAll('td, th')]"
            ".filter(one => one.getBoundingClientRect().right > all.getBoundingClientRect().right)"
            ".map(one => one.innerText)"
        )
        return texts

    def fill(self, *, decision: str = "", approver: str = "", reason: str = "") -> None:
        """Fill the fields that are given, as a person does."""
        if decision:
            self.root.get_by_label("Decision").click()
            self.page.get_by_role("option", name=decision).click()
        for label, words in {"Approver": approver, "Reason": reason}.items():
            if words:
                self.root.get_by_label(label).fill(words)

    def type_decision(self, words: str) -> None:
        """Type a decision as JSON, which the form allows, instead of choosing one."""
        self.root.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Use JSON Input").click()
        self.root.locator("[contenteditable=true]").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(words)

    def resume(self) -> Response:
        """Press Resume, again as long as the server is too busy for an answer (503), and return what it said."""
        while True:
            with self.page.expect_response("**/resume") as said:
                self._button.click()
            if said.value.status != BUSY:
                return said.value

    def press_at(self, time_s: float) -> None:
        """Have Resume pressed at a time, in seconds of the clock, so that two pages can press at once."""
        self._button.evaluate("(button, at) => { setTimeout(() => button.click(), at - Date.now()) }", time_s * 1000)

    @property
    def _button(self) -> Locator:
        return self.root.get_by_role("button", name="Resume", exact=True)

    def says(self, words: str) -> None:
        """Wait until the page has told the person these words."""
        self.page.wait_for_function("words => [...window.told].some(text => text.includes(words))", arg=words)


def open_run(page: Page, url: str, run: UUID) -> None:
    page.goto(f"{url}/v2/runs/flow-run/{run}", wait_until="commit")


def open_dialog(page: Page) -> ApprovalDialog:
    """Open the Resume dialog on a run's page."""
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Resume").click()
    dialog = ApprovalDialog(page, page.get_by_role("dialog", name="Resume Flow Run"))
    dialog.root.get_by_role("button", name="Resume", exact=True).wait_for()
    dialog.root.get_by_role("heading", level=2).nth(1).wait_for()  # the evidence arrives after the dialog
    return dialog
