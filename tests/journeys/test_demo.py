"""`portabl demo` does what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from shell import shell


def _ports(text: str) -> list[int]:
    return [urlsplit(url).port or 0 for url in re.findall(r"http://127\.0\.0\.1:\d+", text)]


def _nobody_listens(ports: list[int]) -> bool:
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


def test_demo_from_beginning_to_end(tmp_path: Path) -> None:
    here = shell(tmp_path)
    done = here.portabl("demo", "--keep", "./kept", timeout=240)
    assert done.code == 0, done.out + done.err
    assert "objects         318" in done.out
    assert re.search(r"copied +318 ", done.out)
    assert re.search(r"copied +0 ", done.out)
    assert '* "albums/2026/0042.jpg" content' in done.out
    assert "portabl migrate old:photos new:photos" in done.out
    assert (tmp_path / "kept" / "manifest" / "manifest.json").exists()
    shown = here.portabl("manifest", "show", "./kept/manifest", "--json")
    assert shown.code == 0
    assert len(_ports(done.out)) == 2
    assert _nobody_listens(_ports(done.out))
    assert "demo-secret" not in done.out + done.err
    assert sorted(os.listdir(tmp_path)) == ["home", "kept"]
    here.portabl("demo", "--keep", "./kept").clear(2, "not empty")


def test_demo_interrupted_leaves_nothing(tmp_path: Path) -> None:
    here = shell(tmp_path, {"TMPDIR": str(tmp_path)})
    process = subprocess.Popen(
        here.command("demo"),
        cwd=tmp_path,
        env=here.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while "portabl migrate" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, (out, err)
    assert "Traceback" not in err
    assert _nobody_listens(_ports(said))
    assert os.listdir(tmp_path) == ["home"]


def test_demo_says_which_extra_is_missing(tmp_path: Path) -> None:
    here = shell(tmp_path)
    program = "import sys; sys.modules['moto'] = None\nimport portabl.cli.app as a\nsys.exit(a.run(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=here.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "hint: pip install 'portabl[demo]'" in done.stderr
