#!/usr/bin/env python3
"""The conversation in tools/demo_model/README.md is what the demo model says, word for word. It can be held to that:
greedy answers have the same bits on every machine.

    tests/sample_conversation_test.py PROGRAM [--print]     --print: the conversation as it is now, for the page
"""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "tools/demo_model/README.md"


def main():
    lines = re.findall(r"^> \*\*(you|demo)\*\* (.*?) *$", PAGE.read_text(encoding="utf-8"), re.M)
    said = [text for who, text in lines if who == "you"]
    written = [text for who, text in lines if who == "demo"]
    command = [sys.argv[1], "run", "demo", "--max-tokens=200", *[f"--say={text}" for text in said]]
    answers = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    if "--print" in sys.argv:
        print("".join(f"> **you** {mine}  \n> **demo** {its}  \n" for mine, its in zip(said, answers)))
        return 0
    if len(said) < 10 or len(written) != len(answers):
        print(f"{PAGE.name}: {len(said)} messages, {len(written)} answers; the model gave {len(answers)}")
        return 1
    wrong = [(mine, its, now) for mine, its, now in zip(said, written, answers) if its != now]
    for mine, its, now in wrong:
        print(f"{mine}\n  the page: {its}\n  the model: {now}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
