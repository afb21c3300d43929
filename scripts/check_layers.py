#!/usr/bin/env python3
"""Checks what the compiler cannot: that the folders' arrows point down, and that the banned words stay out.

  scripts/check_layers.py [ROOT]     exit 1 and one line per finding

Arrows: {server, scheduler, worker, cli} -> {client, compute} -> common -> proto. Roles never include each other.
Some headers and calls have one home, because a second one would break replay, the layers or the error rules.
"""
import pathlib
import re
import subprocess
import sys

# folder -> the folders whose headers it may include
ALLOWED = {
    "common": {"common", "proto"},
    "compute": {"compute", "common", "proto"},
    "client": {"client", "compute", "common", "proto"},
    "server": {"server", "compute", "common", "proto"},
    "scheduler": {"scheduler", "compute", "common", "proto"},
    "worker": {"worker", "client", "compute", "common", "proto"},
    "cli": {"cli", "worker/data", "client", "compute", "common", "proto"},
}
# (what, pattern, files that may, why)
BANNED = [
    ("zmq.h", r"#include\s+<zmq", r"^common/net/zmq_\w+\.cc$", "ZeroMQ is known to the transport alone"),
    ("glog in a header", r"#include\s+<glog/", r"\.cc$", "its macros must not leak"),
    ("std::thread", r"\bstd::(thread|jthread|async)\b", r"^(common/runtime/|tests/|bench/)", "only common/runtime starts threads"),
    ("wall clock", r"\bsystem_clock\b|\bgettimeofday\b|\bCLOCK_REALTIME\b", r"^(cli/|common/runtime/|tests/)",
     "no protocol decision reads it"),
    ("rand", r"(?<![\w:.>])s?rand\(|\brandom_device\b|\bmt19937", r"^common/base/random\.cc$", "chance comes from a lent Random"),
    ("mark left behind", r"\b(TODO|FIXME|XXX)\b", r"^$", "do it or write an issue"),
]
INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"')


def sources(root):
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [pathlib.Path(name) for name in listed]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        paths = [path.relative_to(root) for path in root.rglob("*") if "build" not in path.relative_to(root).parts[:1]]
    return sorted(path for path in paths if path.suffix in (".h", ".cc") and (root / path).is_file())


def within(path, folder):
    return path == folder or path.startswith(folder + "/")


def check(root):
    findings = []
    for path in sources(root):
        name = path.as_posix()
        allowed = ALLOWED.get(path.parts[0])
        for number, line in enumerate((root / path).read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if match and allowed is not None and not any(within(match[1], folder) for folder in allowed):
                findings.append(f"{name}:{number}: includes {match[1]}; {path.parts[0]} may include only {', '.join(sorted(allowed))}")
            code = line.split("//")[0]
            for what, pattern, home, why in BANNED:
                text = line if what == "mark left behind" else code
                if re.search(pattern, text) and not re.search(home, name):
                    findings.append(f"{name}:{number}: {what}: {why}")
        if path.suffix == ".h" and "#pragma once" not in (root / path).read_text(errors="replace"):
            findings.append(f"{name}:1: a header without #pragma once")
    return findings


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    findings = check(root)
    print("\n".join(findings) or f"check_layers: {len(sources(root))} files, nothing found")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
