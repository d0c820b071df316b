"""portabl beside rclone and juicefs on one machine: ``python tests/benchmarks/run.py`` (docs/performance.md)."""
