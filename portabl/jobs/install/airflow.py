"""An Airflow DAG, for Airflow 2.8 and later and Airflow 3."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timedelta

from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.install.common import Artifact, command, scheduled, simple_expression, word

_TEXT = '''"""Made by `portabl jobs install {job} --airflow`. The worker needs portabl, {config} and its state."""

from datetime import timedelta

import pendulum
from airflow.timetables.trigger import CronTriggerTimetable

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

with DAG(
    dag_id={dag},
    description={description},
    schedule=CronTriggerTimetable({schedule}, timezone={zone}),
    start_date=pendulum.datetime({year}, {month}, {day}, tz={zone}),
    catchup=False,
    max_active_runs=1,
    tags=["portabl"],
) as dag:
    BashOperator(
        task_id="run",
        bash_command={command},
        append_env=True,
        retries=0,
        execution_timeout={limit},
    )
'''


def dag(jobs: Jobs, job: ScheduledJob, now: datetime, *, program: list[str] | None = None) -> Artifact:
    """The DAG's file. Raises UsageError for a job without schedule, or with one that Airflow would read differently."""
    schedule = scheduled(job)
    local = now.astimezone(schedule.zone)
    limit = int((job.timeout + timedelta(minutes=5)).total_seconds()) if job.timeout else 0
    # The space at the end keeps Airflow from taking a command that ends in .sh or .bash for a template's file name.
    call = shlex.join(command(program or ["portabl"], job, jobs.config.path)) + " "
    text = _TEXT.format(
        job=job.name,
        config=json.dumps(jobs.config.path)[1:-1],
        dag=json.dumps(f"portabl_{word(job.name, '_')}"),
        description=json.dumps(f"portabl job {job.name}"),
        schedule=json.dumps(simple_expression(schedule, "Airflow")),
        zone=json.dumps(schedule.zone.key),
        year=local.year,
        month=local.month,
        day=local.day,
        command=json.dumps("{% raw %}" + call + "{% endraw %}"),
        limit=f"timedelta(seconds={limit})" if limit else "None",
    )
    return Artifact(f"portabl_{word(job.name, '_')}.py", text, "copy it into the dags folder of Airflow")
