"""Pages as a browser shows them: what it complains of, whom it asks, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Route

# A telephone, a laptop, a screen on a desk.
WIDTHS = (375, 1280, 1680)
FILES = "http://example.com/"

# Each text must lie within the window and within all that would cut it off; what can be scrolled to is not cut off, and
# what is left of the window is there for those who listen.
CUT_OFF = """() => {
  document.querySelectorAll('details').forEach((details) => { details.open = true; });
  const cut = [];
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) cut.push(`the page is ${wide} wide`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(texts.currentNode);
    for (const box of texts.currentNode.data.trim() ? range.getClientRects() : []) {
      if (box.right <= 0 || box.width === 0) continue;
      let places = [document.documentElement];
      for (let element = texts.currentNode.parentElement; element; element = element.parentElement) {
        const overflow = getComputedStyle(element).overflowX;
        if (['auto', 'scroll'].includes(overflow)) { places = []; break; }
        if (['hidden', 'clip'].includes(overflow)) places.push(element);
      }
      for (const place of places.map((element) => element.getBoundingClientRect())) {
        if (box.left < place.left - 1 || box.right > place.right + 1) cut.push(texts.currentNode.data.trim());
      }
    }
  }
  return cut;
}"""


@contextmanager
def opened(chromium: Browser, width: int, origin: str) -> Iterator[tuple[Page, list[str]]]:
    """Open a window; in the end the browser must have had no reason to complain, and have asked nobody but the origin.

    The complaints so far are in the list, from which those that are expected may be taken.
    """
    with chromium.new_context(viewport={"width": width, "height": 900}) as context:
        complaints: list[str] = []
        asked: list[str] = []
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        yield page, complaints
        assert complaints == []
        assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []


def assert_whole(page: Page) -> None:
    """Check that nothing on the page is cut off."""
    assert page.evaluate(CUT_OFF) == [], page.url


def assert_file_is_whole(chromium: Browser, file: Path) -> None:
    """Check a page in a file at each width. The browser, in its container, gets it and its neighbours by an address."""

    def serve(route: Route) -> None:
        route.fulfill(path=file.parent / route.request.url.removeprefix(FILES))

    for width in WIDTHS:
        with opened(chromium, width, FILES) as (page, _complaints):
            page.route(f"{FILES}**", serve)
            page.goto(FILES + file.name)
            assert_whole(page)
