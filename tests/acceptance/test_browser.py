"""The site in a real browser: voting by mouse and by keyboard, and the vote that could not be confirmed."""

from __future__ import annotations

from functools import partial

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance import lab, pages

APP = lab.group("app")[0]


def votes(page: Page) -> int:
    """Return the number of votes that the page of results shows."""
    return int(page.locator("caption").inner_text().split()[0])


@pytest.mark.parametrize("width", pages.WIDTHS)
def test_voting(chromium: Browser, width: int) -> None:
    """From the list to the form, to the results and back to the form; a form without a choice is not sent."""
    with pages.opened(chromium, width, lab.url()) as (page, _complaints):
        page.goto(lab.url("/polls/1/results/"))
        before = votes(page)
        page.get_by_role("link", name="Polls").click()
        pages.assert_whole(page)
        page.locator('a[href="/polls/1/"]').click()
        pages.assert_whole(page)
        page.get_by_role("button", name="Vote").click()
        expect(page).to_have_url(lab.url("/polls/1/"))
        page.get_by_role("radio").first.check()
        page.get_by_role("button", name="Vote").click()
        expect(page).to_have_url(lab.url("/polls/1/results/"))
        assert votes(page) == before + 1
        pages.assert_whole(page)
        page.get_by_role("link", name="Vote again?").click()
        expect(page).to_have_url(lab.url("/polls/1/"))
        page.goto(lab.url("/polls/1/vote/"))
        expect(page).to_have_url(lab.url("/polls/1/"))


def test_voting_by_keyboard(chromium: Browser) -> None:
    """The first key finds the way past the head of the page, and each element that has the focus shows it."""
    with pages.opened(chromium, pages.WIDTHS[0], lab.url()) as (page, _complaints):
        focused = page.locator(":focus-visible")
        page.goto(lab.url("/polls/1/"))
        page.keyboard.press("Tab")
        expect(focused).to_have_text("Skip to the content")
        expect(focused).to_be_in_viewport()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("radio").nth(1)).to_be_checked()
        page.keyboard.press("Tab")
        expect(focused).to_have_text("Vote")
        page.keyboard.press("Enter")
        expect(page).to_have_url(lab.url("/polls/1/results/"))
        for _ in range(3):
            page.keyboard.press("Tab")
        expect(focused).to_have_text("Vote again?")
        page.keyboard.press("Enter")
        expect(page).to_have_url(lab.url("/polls/1/"))


def test_vote_that_could_not_be_confirmed(chromium: Browser) -> None:
    """With no way to a database there is a page that says so, at any width; sending the vote again counts it, once."""
    with pages.opened(chromium, pages.WIDTHS[0], lab.url()) as (page, complaints):
        page.goto(lab.url("/polls/1/results/"))
        before = votes(page)
        page.get_by_role("link", name="Vote again?").click()
        token = page.locator('input[name="token"]').input_value()
        page.get_by_role("radio").first.check()
        lab.on(APP).check_output("systemctl stop haproxy")
        try:
            page.get_by_role("button", name="Vote").click()
            # It is tried for ten seconds.
            expect(page.get_by_role("heading")).to_have_text("Your vote is not confirmed yet", timeout=20_000)
        finally:
            lab.on(APP).check_output("systemctl start haproxy")
        assert "status of 503" in complaints.pop()
        for width in pages.WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            pages.assert_whole(page)
        page.get_by_role("button", name="Send my vote again").click()
        expect(page).to_have_url(lab.url("/polls/1/results/"))
        assert votes(page) == before + 1
    for host in lab.group("postgres"):
        lab.wait_until(f"the vote on {host}", partial(lab.has_vote, host, token), 5)
