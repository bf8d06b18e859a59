"""The page at /docs in a real browser."""

from __future__ import annotations

import pytest

from saxgw.gateway import Gateway, openapi
from tests.browser import CHROMIUM, tab

LIST_ALL = "#operations-SaxService-SaxService_ListAll"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium was not found")
async def test_page(gateway: Gateway, published: str) -> None:
    """A browser that opens the gateway gets a page with all operations, calls one, and asks nobody else."""
    origin = f"http://{gateway.http_address}/"
    async with tab() as page:
        await page.open(origin)
        count = sum(len(item) for item in openapi()["paths"].values())
        assert (
            await page.until("document.querySelector('.opblock') && document.querySelectorAll('.opblock').length")
            == count
        )
        assert await page.until("location.pathname") == "/docs"
        await page.click(f"{LIST_ALL} .opblock-summary-control")
        example = f"document.querySelector('{LIST_ALL} input[placeholder=sax_cell]')?.value"
        assert await page.until(example) == "/sax/test"  # the document's example is in the form already
        await page.click(f"{LIST_ALL} .execute")
        answer = f"{LIST_ALL} .live-responses-table .response"
        assert await page.until(f"document.querySelector('{answer} .response-col_status')?.innerText") == "200"
        assert published in await page.until(f"document.querySelector('{answer} .microlight')?.innerText")
        assert page.errors == []
        assert [url for url in page.requested if not url.startswith((origin, "data:"))] == []
        assert f"{origin}listall?sax_cell=%2Fsax%2Ftest" in page.requested
