#!/usr/bin/env python3
"""Fails if a source file reaches over the layers, or uses what would break replay.

usage: scripts/check_layers.py [REPOSITORY]

Layers: {server, scheduler, worker, cli} -> {client, compute} -> common -> proto. Roles never include each other (they
meet in proto/), but the command line tool reads data files with worker/data. The server never uses the client.
Prints FILE:LINE: RULE for each offence; exit code 1 if there is one.
"""
import pathlib
import re
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
    "worker": ["client", "compute", "common", "proto"],
    "predictor": ["client", "compute", "common", "proto"],
    "cli": ["worker/data", "client", "compute", "common", "proto"],
}
LAYERS = sorted(ALLOWED, key=len, reverse=True)
TEST_FOLDERS = ("tests/", "bench/")

# (what, where it is allowed, why). Where: path prefixes.
BANNED = [
    (re.compile(r'#\s*include\s*[<"](zmq|zmq_addon)\.h(pp)?[>"]'), ("common/net/zmq_transport.cc",) + TEST_FOLDERS,
     "zmq headers only in common/net/zmq_transport.cc"),
    (re.compile(r"\bstd::j?thread\b|\bpthread_create\b|\bstd::async\b"), ("common/runtime/",) + TEST_FOLDERS,
     "threads are started in common/runtime only (use Thread)"),
    (re.compile(r"\bsystem_clock\b|\bgettimeofday\s*\("), (), "no wall clock: take time from a Clock"),
    (re.compile(r"(?<![\w.>])s?rand(_r)?\s*\("), (), "no rand(): take chance from a Random"),
    (re.compile(r"\b(mt19937|random_device)\b"), ("common/base/random.cc",), "take chance from a Random"),
    (re.compile(r'#\s*include\s*[<"](glog|gflags)/'), (), "glog and gflags only in .cc files"),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


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


def offences(path, text):
    layer = layer_of(path)
    for number, line in enumerate(without_comments_and_strings(text), 1):
        include = INCLUDE.match(line)
        if include and layer is not None:
            target = layer_of(include.group(1))
            ours = target is None or target == layer or target in ALLOWED[layer]
            if not ours and not (layer == "worker" and target == "worker/data"):
                yield number, f"{layer} must not include {include.group(1)}"
            if include.group(1).startswith(TEST_FOLDERS):
                yield number, f"{layer} must not include tests"
        for pattern, places, why in BANNED:
            if "only in .cc" in why and path.endswith(".cc"):
                continue
            if pattern.search(line) and not path.startswith(places or ("\0",)):
                yield number, why


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    folders = sorted({layer.split("/")[0] for layer in LAYERS} | {folder.rstrip("/") for folder in TEST_FOLDERS})
    count = found = 0
    for folder in folders:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".cc", ".h", ".cu"):
                continue
            count += 1
            path = file.relative_to(root).as_posix()
            for number, why in offences(path, file.read_text(encoding="utf-8")):
                print(f"{path}:{number}: {why}")
                found += 1
    print(f"{count} files, {found} offences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
