"""Tests the API page of both services in headless Chromium: sign in, create a note, list it, and be rejected without a token.

Writes screenshots to target/page/.
"""

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import requests
from playwright.sync_api import sync_playwright

from clients import PASSWORD, PATIENCE, ROOT, Quickstart, Report

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SHOTS = ROOT / "target/page"


class Page:
    """One browser tab, and the errors that it logged."""

    def __init__(self, browser, url, mode="light"):
        self.tab = browser.new_page(viewport={"width": 1280, "height": 1400}, color_scheme=mode)
        self.tab.set_default_timeout(PATIENCE * 1000)
        self.complaints, self.hosts = [], set()
        self.tab.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.tab.goto(url)
        self.tab.wait_for_selector(".opblock")

    def sign_in(self, username, password):
        self.tab.fill("[name=username]", username)
        self.tab.fill("[name=password]", password)
        self.tab.click("#sign-in button")
        self.tab.locator("#said:not(:empty), #sign-out:not([hidden])").first.wait_for()
        return self.tab.inner_text("header").replace("\n", " ").strip()

    def sign_out(self):
        self.tab.click("#sign-out button")
        self.tab.wait_for_selector("#sign-in", state="visible")

    def execute(self, operation, parameters, body=None):
        """Fills in the parameters of an operation, calls it, and returns the status and the body that the page shows."""
        block = self.tab.locator(f"[id$='-{operation}']")
        if "is-open" not in block.get_attribute("class"):
            block.locator(".opblock-summary-control").click()
        for name, value in parameters.items():
            block.locator(f"tr[data-param-name='{name}'] input").fill(value)
        if body is not None:
            block.locator("textarea.body-param__text").fill(json.dumps(body))
        block.locator("button.execute").click()
        block.locator(".loading-container").wait_for(state="detached")
        answer = block.locator(".live-responses-table .response").first
        answer.wait_for()
        shown = answer.locator(".response-col_description .highlight-code").first.inner_text()
        return answer.locator(".response-col_status").inner_text().split()[0], shown

    def shoot(self, name):
        self.tab.screenshot(path=SHOTS / f"{name}.png")


def keep_a_note(browser, auth, profile, report):
    page = Page(browser, f"{profile}/")
    report.check("the page lists the API", page.tab.locator(".opblock").count() > 20, True)
    report.check("a wrong password is said", "no active user" in page.sign_in("alice", "not this one at all"), True)
    report.check("sign in at the auth service", "Signed in as alice" in page.sign_in("alice", PASSWORD), True)
    status, shown = page.execute("NoteService_CreateNote", {"user_id": "me"}, {"title": "From the page"})
    report.check("create a note", (status, "From the page" in shown), ("200", True))
    status, shown = page.execute("NoteService_ListNotes", {"user_id": "me"})
    report.check("see it listed", (status, "From the page" in shown), ("200", True))
    stored = page.tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    report.check("tokens are in memory only", stored, [0, 0, ""])
    page.tab.locator("[id$='-NoteService_ListNotes']").scroll_into_view_if_needed()
    page.shoot("listed")
    page.sign_out()
    status, shown = page.execute("NoteService_ListNotes", {"user_id": "me"})
    report.check("be refused without a token", (status, "ACCESS_TOKEN_INVALID" in shown), ("401", True))
    page.shoot("refused")
    hosts = {urlsplit(url).netloc for url in (auth, profile)}
    report.check("nothing is loaded from elsewhere", page.hosts - {""}, hosts)
    # The browser logs the two rejected calls and nothing else, in particular no violation of the content security policy.
    report.check("no complaint", [text for text in page.complaints if "status of 401" not in text], [])


def look(browser, profile, mode, report):
    """Looks at one operation: the colors, the defaults, the gRPC method, and the errors, which are collapsed."""
    page = Page(browser, f"{profile}/", mode)
    brightness = page.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(28, 32, 34)"
    report.check(f"the background is {mode}", brightness, mode == "dark")
    block = page.tab.locator("[id$='-NoteService_CreateNote']")
    block.locator(".opblock-summary-control").click()
    owner = block.locator("tr[data-param-name='user_id'] input")
    owner.wait_for()
    report.check("user_id is filled in", owner.input_value(), "me")
    command = block.locator("code", has_text="grpcurl").inner_text()
    host = urlsplit(profile).netloc
    report.check("grpcurl calls the method", command.strip().endswith(f"{host} profiles.v1.NoteService/CreateNote"), True)
    reason = block.get_by_text("ACCESS_TOKEN_INVALID").first
    report.check("errors are collapsed", reason.is_visible(), False)
    block.locator("summary").click()
    report.check("errors can be shown", reason.is_visible(), True)
    page.shoot(mode)


def ask_who_i_am(browser, auth, report):
    page = Page(browser, f"{auth}/")
    page.shoot("auth")
    report.check("sign in at the same service", "Signed in as alice" in page.sign_in("alice", PASSWORD), True)
    status, shown = page.execute("IdentityService_WhoAmI", {})
    report.check("ask who I am", (status, '"alice"' in shown), ("200", True))
    page.shoot("who-am-i")
    report.check("no complaint there either", page.complaints, [])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report()
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder, Quickstart(Path(folder)) as quickstart:
        auth, profile = f"http://{quickstart.auth}", f"http://{quickstart.profile}"
        alice = {"username": "alice", "password": PASSWORD}
        requests.post(f"{auth}/v1/users:register", json=alice, timeout=PATIENCE).raise_for_status()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            report.play(keep_a_note, browser, auth, profile)
            report.play(ask_who_i_am, browser, auth)
            for mode in ("light", "dark"):
                report.play(look, browser, profile, mode)
            browser.close()
        report.check("stops on SIGTERM", quickstart.stop(), 0)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
