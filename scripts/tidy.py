#!/usr/bin/env python3
"""clang-tidy over every C++ file of ours that a build compiles, in parallel, remembering what was found clean.

    scripts/tidy.py BUILD_FOLDER [PATH ...]     (all files, or those whose path starts with one of PATH)

A file stays clean as long as it, the headers of ours that it includes, .clang-tidy, its compile command and
clang-tidy stay what they are: that is hashed, and clean hashes are kept in the cache folder
(${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-~/.cache}/driftwood}/tidy). A second run, or one after a small change, is quick.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLANG_TIDY = os.environ.get("CLANG_TIDY", "clang-tidy-14")
# The commands are GCC's: clang must not stumble over warnings that it does not know, nor add warnings of its own.
EXTRA = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-everything",
         "--extra-arg=-Wno-ignored-optimization-argument", "--extra-arg=-Wno-unused-command-line-argument"]
INCLUDE = re.compile(rb'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def cache_folder():
    base = os.environ.get("DRIFTWOOD_CACHE")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "driftwood")
    return Path(base) / "tidy"


def compile_commands(build, prefixes):
    """path relative to the root -> its compile command, for tracked C++ files."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "*.cc"],
                            capture_output=True, text=True, check=True)
    ours = set(listed.stdout.splitlines())
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if path in ours and path.startswith(tuple(prefixes)):
            commands.setdefault(path, entry["command"])
    return commands


def include_folders(command):
    words = shlex.split(command)
    return [word[2:] for word in words if word.startswith("-I")]


def our_inputs(path, folders, seen):
    """The file and every header of ours that it reaches, in `seen`: path -> contents."""
    if path in seen:
        return
    seen[path] = (ROOT / path).read_bytes()
    for header in INCLUDE.findall(seen[path]):
        name = header.decode(errors="replace")
        for folder in [str((ROOT / path).parent), *folders]:
            candidate = os.path.realpath(os.path.join(folder, name))
            if candidate.startswith(str(ROOT) + os.sep) and os.path.isfile(candidate):
                our_inputs(os.path.relpath(candidate, ROOT), folders, seen)
                break


def key_of(path, command, common):
    inputs = {}
    our_inputs(path, include_folders(command), inputs)
    digest = hashlib.sha256(common)
    digest.update(command.replace(str(ROOT), ".").encode())
    for name in sorted(inputs):
        digest.update(f"\0{name}\0{len(inputs[name])}\0".encode() + inputs[name])
    return digest.hexdigest()[:32]


def run_one(job):
    path, key, build = job
    began = time.monotonic()
    done = subprocess.run([CLANG_TIDY, "--quiet", "-p", build, *EXTRA, ROOT / path], cwd=ROOT, capture_output=True,
                          text=True)
    seconds = time.monotonic() - began
    if done.returncode == 0:
        (cache_folder() / key).touch()
        return path, seconds, None
    # stderr counts suppressed warnings, unless clang-tidy could not run at all.
    return path, seconds, (done.stdout.strip() or done.stderr.strip()).replace(str(ROOT) + os.sep, "")


def new_findings(output, seen):
    """The findings that were not printed yet: one in a header comes with every file that includes it."""
    findings = re.split(r"\n(?=\S+:\d+:\d+: (?:error|warning):)", output)
    fresh = [finding for finding in findings if finding not in seen]
    seen.update(fresh)
    return "\n".join(fresh)


def main(arguments):
    build = Path(arguments[0]).resolve()
    commands = compile_commands(build, arguments[1:] or [""])
    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout
    common = version + (ROOT / ".clang-tidy").read_bytes() + " ".join(EXTRA).encode()
    cache_folder().mkdir(parents=True, exist_ok=True)
    jobs = []
    for path in sorted(commands):
        key = key_of(path, commands[path], common)
        if not (cache_folder() / key).exists():
            jobs.append((path, key, build))
    print(f"lint: clang-tidy: {len(commands)} files, {len(commands) - len(jobs)} known to be clean", flush=True)
    failed, seen = 0, set()
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or len(os.sched_getaffinity(0)))) as pool:
        for path, seconds, output in pool.map(run_one, jobs):
            if output is not None:
                failed += 1
                print(new_findings(output, seen))
            print(f"lint: {path}: {'clean' if output is None else 'see above'} ({seconds:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
