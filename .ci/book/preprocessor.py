"""The preprocessor of mdBook for the documentation site. mdBook calls it, and passes the book as JSON.

- A mermaid block becomes an element that `diagrams.js` draws.
- The pages at the root of the repository, such as CONTRIBUTING.md, become chapters.
- The decisions become chapters below their index.
- A link to a file that is not in the book becomes a link into the repository if `git-repository-url` is set, and text otherwise.
"""

import html
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The pages at the root of the repository that are part of the site, with their titles.
PROJECT = {
    "CHANGELOG.md": "Changes",
    "CONTRIBUTING.md": "Contributing",
    "RELEASING.md": "Releasing",
    "SECURITY.md": "Security",
    "CODE_OF_CONDUCT.md": "Code of conduct",
}
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^()\s]+)\)")


def chapter(title, source, path):
    """Returns a chapter as mdBook represents it."""
    content = (ROOT / source).read_text()
    return {"Chapter": {"name": title, "content": content, "number": None, "sub_items": [], "path": path, "source_path": path, "parent_names": []}}


def target_in_site(file):
    """Returns the path of a file of the repository in the site, or None if the site does not have it."""
    name = file.relative_to(ROOT).as_posix()
    if name in PROJECT:
        return name
    if name.startswith("docs/") and file.suffix == ".md":
        return re.sub(r"README\.md$", "index.md", name.removeprefix("docs/"))
    return None


def rewrite_link(text, target, source, path, repository):
    """Returns the Markdown for a link on the page `source` of the repository, which is the page `path` of the site."""
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    name, _, anchor = target.partition("#")
    file = (ROOT / source).parent.joinpath(name).resolve()
    in_site = target_in_site(file)
    if in_site:
        relative = os.path.relpath(in_site, Path(path).parent)
        return f"[{text}]({relative}{'#' + anchor if anchor else ''})"
    in_repository = file.relative_to(ROOT).as_posix()
    if repository:
        return f"[{text}]({repository}/blob/main/{in_repository})"
    return text if text.strip("`").rstrip("/") in (in_repository, file.name) else f"{text} (`{in_repository}`)"


def prepare(content, source, path, repository):
    """Returns the content of a page for the site."""

    def prose(text):
        return LINK.sub(lambda found: rewrite_link(found[1], found[2], source, path, repository), text)

    prepared, end = "", 0
    for fence in FENCE.finditer(content):
        prepared += prose(content[end : fence.start()])
        # The blank lines of a diagram would end the HTML element.
        lines = [line for line in fence[3].splitlines() if line.strip()]
        prepared += f'<pre class="mermaid">\n{html.escape(chr(10).join(lines))}\n</pre>' if fence[2] == "mermaid" else fence[0]
        end = fence.end()
    return prepared + prose(content[end:])


def prepare_chapters(items, repository):
    for item in items:
        if not isinstance(item, dict) or "Chapter" not in item:
            continue
        found = item["Chapter"]
        if found["source_path"] == "decisions/README.md":
            pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
            found["sub_items"] = [chapter(page.read_text().splitlines()[0].lstrip("# ").replace("`", ""), page, f"decisions/{page.name}") for page in pages]
        if found["path"]:
            source = found["source_path"] if found["source_path"] in PROJECT else f"docs/{found['source_path']}"
            found["content"] = prepare(found["content"], source, found["path"], repository)
        prepare_chapters(found["sub_items"], repository)


def main():
    if sys.argv[1:2] == ["supports"]:
        return 0 if sys.argv[2] == "html" else 1
    context, book = json.load(sys.stdin)
    repository = context["config"]["output"]["html"].get("git-repository-url")
    book["items"] += [chapter(title, name, name) for name, title in PROJECT.items() if (ROOT / name).exists()]
    prepare_chapters(book["items"], repository)
    json.dump(book, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
