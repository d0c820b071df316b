"""A job's memory: numbering, tidying, what is known."""

from __future__ import annotations

from pathlib import Path

from portabl.state import Job


def test_a_lost_journal_never_costs_a_manifest(tmp_path: Path) -> None:
    """Manifests are evidence: a new journal numbers its passes behind them, and only half-written ones are removed."""
    with Job(tmp_path, {"source": "a", "target": "b"}) as job:
        finished, half = job.root / "manifests" / "0007", job.root / "manifests" / "0005"
        (half / "segments").mkdir(parents=True)
        finished.mkdir()
        (finished / "manifest.json").write_text("{}")
        job.tidy()
        assert finished.exists()
        assert not half.exists()
        assert job.begin().number == 8
