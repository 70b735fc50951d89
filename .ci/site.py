"""Builds the documentation site with mdBook, checks it, and looks at it in Chromium.

- mdBook must not warn.
- Every link of the site leads to a page of the site, and every anchor exists.
- No page loads anything from another host. Chromium is offline and draws every diagram.
- No page is wider than a window of 390 pixels.

The site is in target/site/, and screenshots are in target/site-screenshots/.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import sync_playwright

from clients import ROOT, Report

SITE = ROOT / "target/site"
SHOTS = ROOT / "target/site-screenshots"
ASSETS = ROOT / "target/book"
WIDTHS = [390, 1280]
SHOWN = ["index.html", "tutorial/index.html", "architecture/index.html", "architecture/sessions.html", "reference/configuration.html", "guides/deploy.html"]
# mdBook writes these pages itself.
OWN_PAGES = {"404.html", "toc.html"}


class Page(HTMLParser):
    """The anchors, the links and the loaded files of one page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.diagrams = set(), [], [], 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in ("script", "img") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("href"):
            self.loaded.append(attributes["href"])
        self.diagrams += tag == "pre" and attributes.get("class") == "mermaid"


def build(report):
    ASSETS.mkdir(parents=True, exist_ok=True)
    for file in ("site.css", "diagrams.js", "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"):
        shutil.copy(ROOT / ".ci/book" / file, ASSETS)
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run(["mdbook", "build"], cwd=ROOT, capture_output=True, text=True)
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"\b(WARN|ERROR)\b", line)]
    report.check("mdbook builds the site without warnings", (done.returncode, warnings), (0, []))


def check_links(pages, report):
    problems = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    problems.append(f"{path.relative_to(SITE)} loads {link} from another host")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{path.relative_to(SITE)}: the link {link} leads to no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                problems.append(f"{path.relative_to(SITE)}: the page of the link {link} has no such anchor")
    report.check(f"the links of {len(pages)} pages lead to pages and anchors", problems, [])


def look(browser, width, pages, report):
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    tab = context.new_page()
    complaints, wide, drawn = [], [], 0
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    for path, page in pages.items():
        name = path.relative_to(SITE).as_posix()
        # A narrow window shows which pages are too wide. A wide one is for the diagrams.
        if width > min(WIDTHS) and not page.diagrams and name not in SHOWN:
            continue
        tab.goto(path.as_uri())
        if page.diagrams:
            tab.wait_for_function("[...document.querySelectorAll('pre.mermaid')].every((element) => element.querySelector('svg'))")
            drawn += page.diagrams
        overflow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if overflow > 0:
            wide.append(f"{name} is {overflow} pixels too wide")
        if name in SHOWN:
            tab.screenshot(path=SHOTS / f"{name.removesuffix('.html').replace('/', '-')}-{width}.png", full_page=name != "reference/configuration.html")
    report.check(f"at {width} pixels no page is wider than the window", wide, [])
    report.check(f"at {width} pixels Chromium draws {drawn} diagrams without an error", (complaints, drawn > 0), ([], True))
    context.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    build(report)
    SHOTS.mkdir(parents=True, exist_ok=True)
    pages = {path: Page(path) for path in sorted(SITE.rglob("*.html")) if path.name not in OWN_PAGES}
    report.play(check_links, pages)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for width in WIDTHS:
            report.play(look, browser, width, pages)
        browser.close()
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
