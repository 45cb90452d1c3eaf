"""What is committed works on any machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together here, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?:^|[^.\w])/(?:" + "work|root|home" + r")/[a-z]")
REGISTRIES = [
    ".".join(parts) for parts in (("npmjs", "org"), ("pypi", "org"), ("pythonhosted", "org"), ("maven", "org"))
]


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


FILES = committed()


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in FILES
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_file_names_the_host_of_a_package_registry() -> None:
    found = [f"{path.relative_to(ROOT)}: {host}" for path in FILES for host in REGISTRIES if host in text_of(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_requirement_is_pinned_with_a_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    unpinned = [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
    assert not unpinned


def test_what_setup_cfg_requires_is_locked() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for lock, requirements in (
        ("requirements.lock", config["options"]["install_requires"]),
        ("requirements-dev.lock", config["options.extras_require"]["dev"]),
    ):
        locked = {normal(line.split("==")[0]) for line in (ROOT / lock).read_text().splitlines() if "==" in line}
        required = {
            normal(re.split(r"[ <>=!~\[;]", line)[0])
            for line in requirements.splitlines()
            if line.strip() and not line.strip().startswith("#")
        }
        assert required <= locked, f"{lock}: run `make lock`"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
