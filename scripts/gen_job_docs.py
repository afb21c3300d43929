#!/usr/bin/env python3
"""Makes docs/jobs.md, the reference of the job file, from the comments of proto/job.proto.

  scripts/gen_job_docs.py            write docs/jobs.md
  scripts/gen_job_docs.py --check    write nothing; exit 1 if docs/jobs.md is not what would be written

proto/job.proto is read line by line: a comment above a field or after it is the field's meaning. Only the part of
the language that the file uses is understood; anything else is an error, so that nothing is left out silently.
"""
import difflib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto" / "job.proto"
TARGET = ROOT / "docs" / "jobs.md"

INTRO = """# The job file

<!-- Made by scripts/gen_job_docs.py from proto/job.proto: change the comments there, then run it. -->

A job is one text file, by custom `NAME.job.textproto`, in
[Protobuf's text format](https://protobuf.dev/reference/protobuf/textformat-spec/): `field: value`, `block { ... }`,
`#` begins a comment, a repeated field is written once per value or as `[a, b]`. What is not written has its default.

```textproto
name: "adult"
data { format: LIBSVM train: "adult/a9a.xz" test: "adult/a9a.t.xz" }
model { loss: LOGISTIC }
optimizer { kind: ADAGRAD learning_rate: 0.1 }
train { epochs: 5 batch_size: 64 }
consistency { mode: SSP staleness: 8 }
```

`sheaf validate FILE` checks a job as a whole without starting anything: an error names file, line and field, the
nearest right name and the allowed range. More jobs are in [`examples/`](../examples).
"""

FIELD = re.compile(
    r"^(optional|repeated)\s+([\w.]+)\s+(\w+)\s*=\s*\d+\s*"
    r"(?:\[\s*default\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\]]+?)\s*\])?;\s*(?://\s*(.*))?$"
)
VALUE = re.compile(r"^(\w+)\s*=\s*\d+\s*;\s*(?://\s*(.*))?$")


class Message:
    def __init__(self, name, comment):
        self.name, self.comment = name, comment
        self.fields = []  # (label, type, name, default, comment)
        self.enums = {}  # name -> [(value, comment)]


def fail(number, line):
    sys.exit(f"gen_job_docs: {SOURCE.name}:{number}: do not know how to read '{line}'")


def parse(text):
    messages, message, enum, pending = {}, None, None, []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line:
            pending = []
        elif line.startswith("//"):
            pending.append(line[2:].strip())
        elif enum is not None:
            if line == "}":
                enum, pending = None, []
            elif match := VALUE.match(line):
                message.enums[enum].append((match[1], " ".join(filter(None, pending + [match[2]]))))
                pending = []
            else:
                fail(number, line)
        elif match := re.match(r"^message (\w+) \{$", line):
            message = messages[match[1]] = Message(match[1], " ".join(pending))
            pending = []
        elif message is None:
            if not re.match(r"^(syntax|package|import|option)\b", line):
                fail(number, line)
            pending = []
        elif line == "}":
            message, pending = None, []
        elif match := re.match(r"^enum (\w+) \{\s*(.*)$", line):
            message.enums[match[1]], rest = [], match[2]
            if not rest:
                enum = match[1]
            else:
                body = rest.split("}")[0]
                for item in filter(None, (part.strip() for part in body.split(";"))):
                    message.enums[match[1]].append((item.split("=")[0].strip(), ""))
            pending = []
        elif match := FIELD.match(line):
            comment = " ".join(filter(None, pending + [match[5]]))
            message.fields.append((match[1], match[2], match[3], match[4], comment))
            pending = []
        else:
            fail(number, line)
    return messages


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def type_words(label, kind, message, messages):
    words = {"string": "text", "bool": "true or false", "double": "number", "uint32": "whole number",
             "uint64": "whole number"}
    if kind in messages:
        word = "block"
    elif kind in message.enums:
        word = " · ".join(f"`{value}`" for value, _ in message.enums[kind])
    else:
        word = words.get(kind, kind)
    return word + (", repeated" if label == "repeated" else "")


def default_words(label, kind, default, message, messages):
    if default is not None:
        return f"`{default}`"
    if label == "repeated" or kind in messages:
        return ""
    if kind in message.enums:
        return f"`{message.enums[kind][0][0]}`"
    return {"string": '`""`', "bool": "`false`"}.get(kind, "`0`")


def section(path, message, messages, out):
    title = f"`{path}`" if path else "The file"
    out.append(f"\n## {title}\n")
    if message.comment:
        out.append(message.comment + "\n")
    out.append("| field | value | default | meaning |")
    out.append("| --- | --- | --- | --- |")
    for label, kind, name, default, comment in message.fields:
        inner = f"{path}.{name}" if path else name
        field = f"[`{name}`](#{inner.replace('.', '')})" if kind in messages else f"`{name}`"
        out.append(
            f"| {field} | {cell(type_words(label, kind, message, messages))} "
            f"| {cell(default_words(label, kind, default, message, messages))} | {cell(comment)} |"
        )
    for enum, values in message.enums.items():
        if any(comment for _, comment in values):
            out.append("")
            out.extend(f"- `{value}`: {cell(comment)}" if comment else f"- `{value}`" for value, comment in values)
    for _, kind, name, _, _ in message.fields:
        if kind in messages:
            section(f"{path}.{name}" if path else name, messages[kind], messages, out)


def generate():
    messages = parse(SOURCE.read_text())
    messages["JobSpec"].comment = ""  # the file's first lines are for who reads the proto
    out = []
    section("", messages["JobSpec"], messages, out)
    return INTRO + "\n".join(out) + "\n"


def main():
    made = generate()
    if sys.argv[1:] == ["--check"]:
        have = TARGET.read_text() if TARGET.exists() else ""
        if have != made:
            difference = difflib.unified_diff(have.splitlines(True), made.splitlines(True), "docs/jobs.md", "made")
            sys.stdout.writelines(difference)
            sys.exit("gen_job_docs: docs/jobs.md does not match proto/job.proto: run scripts/gen_job_docs.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        TARGET.write_text(made)


if __name__ == "__main__":
    main()
