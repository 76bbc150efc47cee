"""For benches: runs commands, takes what they took, and prints it as Markdown.

A figure is the median of all runs. Times and memory of a process are those that /usr/bin/time gives, which is started anew
for each, so that nothing of the caller counts.
"""
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


class Wrong(Exception):
    """An answer that differs, or a command that failed: there is no figure."""


@dataclass
class Ran:
    """Seconds and peak MiB of each run of a command, and what the last one printed."""

    seconds: list = field(default_factory=list)
    mib: list = field(default_factory=list)
    output: str = ""

    def median(self):
        return statistics.median(self.seconds)

    def peak(self):
        return statistics.median(self.mib)


def run(command, runs=1, environment=None, check=None):
    """Runs a command `runs` times; `check` sees what each printed, and raises Wrong where that is not right."""
    ran = Ran()
    for _ in range(runs):
        with tempfile.NamedTemporaryFile("r") as took:
            timed = ["/usr/bin/time", "-f", "%e %M", "-o", took.name, *map(str, command)]
            done = subprocess.run(timed, capture_output=True, text=True, env={**os.environ, **(environment or {})})
            ran.output = done.stdout + done.stderr
            if done.returncode != 0:
                last = ran.output.strip().splitlines()[-3:]
                raise Wrong(f"ended with {done.returncode}: " + " / ".join(last))
            seconds, kib = took.read().split()[-2:]
        if check:
            check(ran.output)
        ran.seconds.append(float(seconds))
        ran.mib.append(int(kib) / 1024)
    return ran


def generated(folder, rows, accounts, days=60):
    """A history that benches/data/generate.py makes, kept under its name."""
    file = Path(folder) / f"growth-{rows}-{accounts}-{days}.parquet"
    if not file.is_file():
        part = f"{file}.part"
        command = [sys.executable, "benches/data/generate.py", "--form", "canonical", "--rows", rows, "--accounts", accounts, "--days", days]
        subprocess.run([*map(str, command), "--out", part], check=True, capture_output=True)
        Path(part).rename(file)
    return file


def output(*command):
    """What a command prints, or nothing when it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def heading(title, manumit, command):
    """Machine, commit, versions and command, so that the table below can be taken up elsewhere."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    with open("/proc/meminfo") as lines:
        memory = int(next(lines).split()[1]) / (1 << 20)
    commit = output("git", "rev-parse", "--short", "HEAD")
    changed = " with changes" if output("git", "status", "--porcelain", "--untracked-files=no") else ""
    given = ", the program given by MANUMIT" if os.environ.get("MANUMIT") else ""
    now = datetime.datetime.now(datetime.timezone.utc)
    print(f"### {title}\n")
    print(f"{now:%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores, {model}, {memory:.0f} GiB; load {os.getloadavg()[0]:.1f}; commit {commit}{changed}{given};")
    print(f"{output(manumit, '--version')}; `{command}`\n")
    sys.stdout.flush()


def row(*cells):
    """One line of a table, printed at once."""
    shown = (f"{cell:,.0f}" if isinstance(cell, (int, float)) else str(cell) for cell in cells)
    print("| " + " | ".join(shown) + " |", flush=True)


def header(*names):
    """The head of a table."""
    row(*names)
    row(*("---" for _ in names))
