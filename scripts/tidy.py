#!/usr/bin/env python3
"""Holds the source tree to rules that no compiler knows: layers, what would break replay, form, links of pages.

  scripts/tidy.py [REPOSITORY]     prints FILE:LINE: RULE for each finding; exit code 1 if there is one

Layers: {server, scheduler, worker, cli} -> {client, compute} -> common -> proto. Roles never include each other (they
meet in proto/), but the command line tool reads data files with worker/data. The server never uses the client.
Each rule finds what is planted for it in tests/lint/tidy_test.py. A rule's exceptions stand in its table, with reasons.
"""
import pathlib
import re
import subprocess
import sys

# Folder -> folders it may include from, besides itself. The longest matching folder counts.
ALLOWED = {
    "proto": [],
    "common": ["proto"],
    "compute": ["common", "proto"],
    "client": ["compute", "common", "proto"],
    "server": ["compute", "common", "proto"],
    "scheduler": ["client", "compute", "common", "proto"],
    "worker/data": ["compute", "common", "proto"],
    "worker": ["worker/data", "client", "compute", "common", "proto"],
    "cli": ["worker/data", "client", "compute", "common", "proto"],
}
LAYERS = sorted(ALLOWED, key=len, reverse=True)
TESTS = ("tests/", "bench/")
PROGRAMS = ("cli/", "server/main.cc", "scheduler/main.cc", "worker/main.cc") + TESTS

# (what, where it is allowed, why). Where: path prefixes. Comments and strings are blanked before the search.
BANNED = [
    (r'#\s*include\s*[<"](zmq|zmq_addon)\.h(pp)?[>"]', ("common/net/zmq_transport.cc",) + TESTS,
     "zmq headers only in common/net/zmq_transport.cc"),
    (r'#\s*include\s*[<"]rocksdb/', ("common/storage/rocks_",) + TESTS,
     "rocksdb headers only in common/storage/rocks_*.cc"),
    (r'#\s*include\s*[<"]curl/', ("common/storage/etcd_client.cc",) + TESTS,
     "curl headers only in common/storage/etcd_client.cc"),
    (r"\bstd::j?thread\b|\bpthread_create\b|\bstd::async\b", ("common/runtime/",) + TESTS,
     "threads are started in common/runtime only (use Thread)"),
    (r"\b(this_thread::)?sleep_(for|until)\b|(?<![\w.>:])(u|nano)?sleep\s*\(", (),
     "no sleep: wait for what you wait for (a descriptor, a Mailbox, a tick)"),
    (r"\bsystem_clock\b|\bgettimeofday\s*\(", (), "no wall clock: take time from a Clock"),
    (r"(?<![\w.>])s?rand(_r)?\s*\(", (), "no rand(): take chance from a Random"),
    (r"\b(mt19937|random_device)\b", ("common/base/random.cc",), "take chance from a Random"),
    (r"\bstd::(cout|wcout)\b", ("common/runtime/flags_env.cc",) + PROGRAMS,
     "a library does not print: return it, or LOG in a shell"),
    (r"(?<![\w.>])(std::)?(v?printf|puts|putchar)\s*\(", PROGRAMS,
     "a library does not print: return it, or LOG in a shell"),
    (r"(?<![\w.>])(std::)?(strcpy|strcat|v?sprintf|gets|strtok|atoi|atol|atoll|atof)\s*\(", (),
     "unbounded or unchecked: use std::string, snprintf, Parse... of common/base/strings.h"),
    (r"(?<![\w.>:])(std::)?(system|popen)\s*\(", (), "no shell: start a ChildProcess (common/runtime/process.h)"),
    (r"(?<![\w])assert\s*\(", (), "no assert(), which release builds leave out: SHEAF_CHECK, or an Error"),
    (r"(?<![\w.>])(std::)?(abort|exit|quick_exit|terminate)\s*\(|(?<![\w.>])_exit\s*\(",
     ("common/base/check.cc", "common/runtime/process.cc") + TESTS,
     "only main ends a process: return an Error, or SHEAF_CHECK"),
    (r"(?<![\w.>])(std::)?([mc]|re)alloc\s*\(",
     ("bench/allocations.cc", "tests/contract/shard_memory/counting.cc"),  # they are operator new
     "no malloc: use a container or a smart pointer"),
    (r"\bstd::w?regex\b", (), "no std::regex: its stack grows with its input"),
    (r"\bdelete\b(?!\s*;)(?<!= delete)", (), "no delete: owners are smart pointers"),
    (r"(?<!_ptr<)\bnew\s+[\w:]+[^;]*;", (), "no naked new: std::make_unique, or a smart pointer on the same line"),
    (r"\busing\s+namespace\s", (".cc",), "no using namespace in a header"),
    (r'#\s*include\s*[<"](glog|gflags)/', (".cc",), "glog and gflags only in .cc files"),
]
BANNED = [(re.compile(pattern), places, why) for pattern, places, why in BANNED]
# What a smart pointer takes over at once, and what lives as long as the process on purpose.
OWNED_NEW = re.compile(
    r"_ptr<[^;]*>\s*(\w+\s*)?\(\s*$|_ptr<[^;]*>\s*(\w+\s*)?\([^;]*new|log_role\.store\(new")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')

LINE_BYTES = 120
SOURCES = (".cc", ".h", ".proto", ".py", ".sh", ".cmake", "CMakeLists.txt")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")  # tidy: the rule itself


def layer_of(path):
    return next((layer for layer in LAYERS if path == layer or path.startswith(layer + "/")), None)


def without_comments_and_strings(text):
    """The same lines, with comments blanked, and strings too, except in #include lines."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    text = re.sub(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"', blank, text, flags=re.S)
    lines = []
    for line in text.split("\n"):
        lines.append(line if line.lstrip().startswith("#") else re.sub(r'"(?:\\.|[^"\\])*"', '""', line))
    return lines


def allowed_at(path, places):
    return path.startswith(tuple(place for place in places if not place.startswith(".")) or ("\0",)) or \
        path.endswith(tuple(place for place in places if place.startswith(".")) or ("\0",))


def layers(path, code):
    layer = layer_of(path)
    for number, line in enumerate(code, 1):
        include = INCLUDE.match(line)
        if not include or layer is None:
            continue
        target = layer_of(include.group(1))
        if target is not None and target != layer and target not in ALLOWED[layer]:
            yield number, f"{layer} must not include {include.group(1)}"
        if include.group(1).startswith(TESTS):
            yield number, f"{layer} must not include tests"


def banned_calls(path, code):
    for number, line in enumerate(code, 1):
        for pattern, places, why in BANNED:
            if not pattern.search(line) or allowed_at(path, places):
                continue
            if "naked new" in why:
                before = code[number - 2] if number > 1 else ""
                if OWNED_NEW.search(line) or OWNED_NEW.search(before):
                    continue
            yield number, why


def catches_with_reason(text):
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if re.search(r"catch\s*\(\s*\.\.\.\s*\)", line.split("//")[0]):
            if "//" not in line and not (number > 1 and lines[number - 2].lstrip().startswith("//")):
                yield number, "catch (...) needs a comment that says why nothing better is known"


def form(path, text):
    """What every file of ours looks like."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.encode()) > LINE_BYTES:
            yield number, f"{len(line.encode())} bytes: a line has at most {LINE_BYTES}"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in line:
            yield number, "a tab: indent with blanks, write \\t in strings"
        if UNFINISHED.search(line) and "tidy:" not in line:
            yield number, "unfinished: finish it, or put it where people look for plans"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield len(lines), "a file ends with one line end"
    if path.endswith(".h"):
        if not text.startswith("//"):
            yield 1, "a header begins with what it is for"
        if "\n#pragma once\n" not in text:
            yield 1, "no #pragma once"
    if path.endswith(".cc") and not text.startswith(("//", '#include "')):
        yield 1, "begin with what the file is for, or with the header that says so"


def own_header_first(path, text, root):
    """With own headers first, the build without precompiled headers (asan) proves that each header compiles alone;
    those without a .cc are compiled by tests/lint/CMakeLists.txt."""
    header = path[:-len(".cc")] + ".h"
    if path.endswith(".cc") and (root / header).exists():
        first = re.search(r"^#\s*include\s+\S+", text, re.M)
        if first is None or f'"{header}"' not in first.group(0):
            yield 1, f'include "{header}" first'


# ---- pages

PAGE_PATH = re.compile(
    r"`((?:proto|common|compute|client|server|scheduler|worker|cli|docs|examples|scripts|deploy|tests)/[\w./-]+\.\w+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text):
    headings = re.findall(r"^#+\s+(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path, text, root):
    """Relative links must name a file or folder of the repository, and their #anchor a heading of that page; paths in
    backquotes that begin with a folder of the source tree and hold a file must exist, too."""
    in_code = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            in_code = not in_code
        for target in [] if in_code else LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            page = root / path
            file = (page.parent / name).resolve() if name else page
            if not file.exists():
                yield number, f"link to {target}: no such file"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                yield number, f"link to {target}: no such heading"
        for named in PAGE_PATH.findall(line):
            if not (root / named).exists():
                yield number, f"names {named}: no such file"


ANONYMOUS = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.M | re.S)
OWN_NAME = re.compile(
    r"^(?:template <[^\n]*>\n)?(?:"
    r"(?:static |inline )?(?:constexpr|const)\b[^\n=({]*?\b(?P<constant>\w+)(?:\[\w*\])?(?: = |\{|\(|;)"
    r"|(?:class|struct|enum class|enum) (?P<type>\w+)(?= [{:]| final)"
    r"|[\w:][\w:<>,&*\[\] ]*[ &*](?P<function>\w+)\((?P<taken>[^)]*)\)[^;]*?\{)", re.M)


def unit_of(path):
    """Sources whose builds with sanitizers compile several of them as one."""
    folder = path.rpartition("/")[0]
    return "common" if folder.startswith("common/") else folder


def own_names(text):
    """(line, name) of what a source defines for itself alone."""
    for block in ANONYMOUS.finditer(text):
        for match in OWN_NAME.finditer(block.group(1)):
            line = text.count("\n", 0, block.start(1) + match.end()) + 1
            taken = match.group("taken")
            name = match.group("constant") or match.group("type") or match.group("function")
            yield line, name if taken is None else f"{name}({' '.join(taken.split())})"


# These are not compiled so.
APART = ("bench/", "compute/", "tests/fuzz/", "tests/sim/", "tests/chaos/")


class OwnNames:
    """What one source of a folder has for itself no other has by the same name: they may be compiled as one, and it is
    either the same twice or two things that a reader takes for one."""

    def __init__(self):
        self.seen = {}

    def findings(self, path, text):
        if not path.endswith(".cc") or path.startswith(APART):
            return
        for line, name in own_names(text):
            other = self.seen.setdefault((unit_of(path), name), path)
            if other != path:
                yield line, f"{name} is also {other}'s: share it, or give it another name"


def findings(path, text, root):
    """All that is wrong with one file: (line, rule)."""
    if path.endswith(".md"):
        yield from links(path, text, root)
        return
    yield from form(path, text)
    if path.endswith((".cc", ".h")):
        code = without_comments_and_strings(text)
        yield from layers(path, code)
        yield from banned_calls(path, code)
        yield from catches_with_reason(text)
        yield from own_header_first(path, text, root)


def files_of(root):
    """What git knows or would add; without git (a source archive), all but builds and data."""
    git = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = listed.stdout.splitlines()
    else:
        paths = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    return sorted(path for path in paths if path.endswith(SOURCES + (".md",)) and (root / path).is_file() and
                  not path.startswith(("build/", "data/")))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    paths = files_of(root)
    found = 0
    own = OwnNames()
    for path in paths:
        text = (root / path).read_text(encoding="utf-8")
        for number, why in [*findings(path, text, root), *own.findings(path, text)]:
            print(f"{path}:{number}: {why}")
            found += 1
    print(f"{len(paths)} files, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
