"""Open every page of the built site in headless Chromium: no errors, nothing missing, formulas drawn, readable on a phone.

python scripts/check_site.py SITE                     SITE is the folder that sphinx-build wrote
python scripts/check_site.py SITE --pictures FOLDER   and take pictures of some pages
"""

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

WIDTHS = {"desktop": 1280, "phone": 390}
SHOWN = (
    "index",
    "gallery",
    "choosing-a-loss",
    "numerical-stability",
    "losses/cross_entropy_with_logits",
    "how-it-works",
    "performance",
)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

MEASURE = """() => ({
    images: [...document.images].filter(one => !one.complete || one.naturalWidth === 0).map(one => one.src),
    formulas: [...document.querySelectorAll('math')]
        .filter(one => one.getBoundingClientRect().width === 0 && one.parentElement.offsetParent !== null).length,
    wide: document.documentElement.scrollWidth - window.innerWidth,
    title: document.title,
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Log nothing: requests are monitored in the browser."""


def problems(page: Any, address: str, width: int) -> list[str]:
    """What is wrong with a page at a width."""
    found: list[str] = []
    on = {
        "console": lambda one: found.append(f"console: {one.text}") if one.type == "error" else None,
        "pageerror": lambda one: found.append(f"script: {one}"),
        "requestfailed": lambda one: found.append(f"failed: {one.url}"),
        "response": lambda one: found.append(f"{one.status}: {one.url}") if one.status >= 400 else None,
    }
    for event, listener in on.items():
        page.on(event, listener)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address, wait_until="load")
    page.evaluate("document.querySelectorAll('img[loading=lazy]').forEach(one => one.loading = 'eager')")
    page.wait_for_load_state("networkidle")
    seen = page.evaluate(MEASURE)
    for event, listener in on.items():
        page.remove_listener(event, listener)
    found += [f"no picture: {one}" for one in seen["images"]]
    if seen["formulas"]:
        found.append(f"{seen['formulas']} formulas without a size")
    if seen["wide"] > 1:
        found.append(f"{seen['wide']} pixels wider than the window")
    return found


def check(site: Path, pictures: Path | None, chromium: str) -> int:
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base, wrong = f"http://127.0.0.1:{server.server_port}", 0
    names = sorted(one.relative_to(site).with_suffix("").as_posix() for one in site.rglob("*.html") if "_static" not in one.parts)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_context(offline=False).new_page()
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith((base, "data:")) else route.abort())
        for name in names:
            for kind, width in WIDTHS.items():
                for problem in problems(page, f"{base}/{name}.html", width):
                    print(f"{name} ({kind}): {problem}")
                    wrong += 1
                if pictures is not None and name in SHOWN:
                    pictures.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=str(pictures / f"{name.replace('/', '-')}-{kind}.png"))
        browser.close()
    server.shutdown()
    print(f"{len(names)} pages at {len(WIDTHS)} widths: {wrong or 'no'} problems")
    return int(wrong > 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args(argv)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("check_site.py: there is no Chromium here; nothing was checked", file=sys.stderr)
        return 0
    return check(arguments.site.resolve(), arguments.pictures, chromium)


if __name__ == "__main__":
    sys.exit(main())
