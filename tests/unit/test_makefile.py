"""`make install` on machines where Python cannot make a whole virtual environment by itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

ROOT = Path(__file__).parents[2]
_FAKE_PYTHON = """\
#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  "-m venv --clear --without-pip "*) exec "{python}" "$@" ;;
  "-m venv "*) echo "ensurepip is not available" >&2; exit 1 ;;
  "-m pip --python "*)
    {has_pip} || exit 1
    site=$("$4" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/pip"
    echo "import sys; open('{log}', 'a').write('own pip: ' + ' '.join(sys.argv[1:]) + chr(10))" \\
      > "$site/pip/__main__.py" ;;
  *) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a folder with what `make install` reads."""
    require("make", shutil.which("make"), "make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/dev.txt").touch()
    return tmp_path


def install(clone: Path, *, has_pip: bool) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run `make install` with a Python without `ensurepip`; return its end and what was called."""
    log = clone / "calls"
    fake = clone / "fake-python"
    word = "true" if has_pip else "false"
    fake.write_text(_FAKE_PYTHON.format(log=log, python=sys.executable, has_pip=word))
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={fake}"],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, log.read_text()


def test_make_without_ensurepip(clone: Path) -> None:
    """Debian has `python3` and `python3-pip` without `python3-venv`."""
    done, calls = install(clone, has_pip=True)

    assert done.returncode == 0, done.stderr
    own = [line for line in calls.splitlines() if line.startswith("own pip: install")]
    assert len(own) == 2
    assert "-r requirements/dev.txt" in own[0]
    assert (clone / ".venv/.complete").exists()


def test_make_without_ensurepip_and_pip_names_the_package(clone: Path) -> None:
    done, _ = install(clone, has_pip=False)

    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (clone / ".venv/.complete").exists()
