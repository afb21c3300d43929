#!/usr/bin/env python3
"""Every test that docs/guarantees.md names exists, and every promise names some."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MACRO = re.compile(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)", re.M)


def known_tests():
    names = set()
    for source in (ROOT / "tests").rglob("*_test.cc"):
        names |= {f"{suite}.{test}" for suite, test in MACRO.findall(source.read_text())}
    for cmake in (ROOT / "tests").rglob("CMakeLists.txt"):
        names |= set(re.findall(r"add_test\(NAME (e2e\.\w+)", cmake.read_text()))
    names |= {"e2e." + path.name.removesuffix("_test.py") for path in (ROOT / "tests/e2e").glob("*_test.py")}
    return names


def main():
    text = (ROOT / "docs/guarantees.md").read_text()
    known = known_tests()
    wrong = [f"there is no test {name}" for name in re.findall(r"`(\w+\.\w+)`", text) if name not in known]
    wrong += [f"there is no {script}" for script in re.findall(r"`(scripts/[\w.]+)", text)
              if not (ROOT / script).exists()]
    for promise in re.split(r"^(?=\*\*\d+\. )", text, flags=re.M)[1:]:
        if not re.search(r"`\w+\.\w+`", promise):
            wrong.append("no test is named for: " + promise.splitlines()[0])
    for line in wrong:
        print(f"docs/guarantees.md: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
