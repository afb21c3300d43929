#!/usr/bin/env python3
"""Checks that the Markdown pages point only to what exists.

  scripts/check_docs.py     exit 1 and one line per finding

Relative links must name a file or folder of the repository, and their #anchor a heading of that page; paths in
backquotes that begin with a folder of the source tree and hold a file must exist, too.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATH = re.compile(r"`((?:proto|common|compute|client|server|scheduler|worker|cli|docs|examples|scripts|deploy|tests)/[\w./-]+\.\w+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text):
    found = set()
    for heading in re.findall(r"^#+\s+(.+)$", text, re.M):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def check(page):
    text = page.read_text()
    for target in LINK.findall(without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"link to {target}: no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"link to {target}: no such heading"
    for path in PATH.findall(text):
        if not (ROOT / path).exists():
            yield f"names {path}: no such file"


def main():
    pages = sorted(page for page in ROOT.rglob("*.md") if not {"build", "data"} & set(page.relative_to(ROOT).parts[:1]))
    findings = [f"{page.relative_to(ROOT)}: {finding}" for page in pages for finding in check(page)]
    print("\n".join(findings) or f"check_docs: {len(pages)} pages, nothing found")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
