"""The page's own checks, run from here so that `make test` is all there is to run."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.engines import ROOT

UI = ROOT / "web" / "ui"


@pytest.fixture(scope="module")
def npm_installed() -> None:
    if not (UI / "node_modules" / ".bin" / "vitest").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=UI, check=True, capture_output=True, text=True)


@pytest.mark.usefixtures("npm_installed")
@pytest.mark.parametrize("script", ["check", "test"])
def test_types_hold_and_the_pure_parts_keep_their_promises(script: str) -> None:
    done = subprocess.run(["npm", "run", script], cwd=UI, check=False, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((UI / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in packages.items() if name)
