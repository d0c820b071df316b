"""A Kubernetes CronJob (batch/v1)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.install.common import Artifact, command, scheduled, simple_expression, variables, word

CONFIG = "/etc/portabl/portabl.toml"
_TEXT = """# Made by `portabl jobs install {job} --kubernetes`. It needs, once:
#   kubectl create configmap portabl-config --from-file=portabl.toml={config}
#   kubectl create secret generic portabl-credentials {literals}
#   a PersistentVolumeClaim `portabl-state`: run records, manifests and what an interrupted run goes on from
# Paths in portabl.toml are paths in the container.
{warning}apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: portabl
    app.kubernetes.io/instance: {name}
spec:
  schedule: {schedule}
  timeZone: {zone}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {grace}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 5
  jobTemplate:
    spec:
      backoffLimit: 0{limit}
      template:
        metadata:
          labels:
            app.kubernetes.io/name: portabl
            app.kubernetes.io/instance: {name}
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 300
          securityContext:
            runAsNonRoot: true
            runAsUser: 65532
            runAsGroup: 65532
            fsGroup: 65532
            seccompProfile:
              type: RuntimeDefault
          containers:
            - name: portabl
              image: {image}
              command: {command}
              env:
                - name: XDG_STATE_HOME
                  value: /state
                - name: HOME
                  value: /tmp
              envFrom:
                - secretRef:
                    name: portabl-credentials
                    optional: true
              resources:
                requests:
                  cpu: 500m
                  memory: 256Mi
                limits:
                  memory: 1Gi
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: ["ALL"]
              volumeMounts:
                - name: config
                  mountPath: /etc/portabl
                  readOnly: true
                - name: state
                  mountPath: /state
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: config
              configMap:
                name: portabl-config
            - name: state
              persistentVolumeClaim:
                claimName: portabl-state
            - name: tmp
              emptyDir: {{}}
"""


def cronjob(jobs: Jobs, job: ScheduledJob, now: datetime, *, image: str, program: list[str] | None = None) -> Artifact:
    """The manifest. Raises UsageError for a job without schedule, or with one that Kubernetes reads differently."""
    schedule = scheduled(job)
    moved = schedule.moved(now, 2 * 366)
    warning = ""
    if moved is not None:
        night = f"{moved.astimezone(schedule.zone):%Y-%m-%d}"
        warning = f"# Kubernetes leaves out {night}, when the clocks skip this time: choose one outside the gap.\n"
    names = variables(jobs)
    name = f"portabl-{word(job.name)}"[:52].rstrip("-")
    limit = int((job.timeout + timedelta(minutes=5)).total_seconds()) if job.timeout else 0
    text = _TEXT.format(
        job=job.name,
        config=jobs.config.path,
        literals=" ".join(f"--from-literal={one}=..." for one in names) or "--from-literal=NAME=...",
        warning=warning,
        name=name,
        schedule=json.dumps(simple_expression(schedule, "Kubernetes")),
        zone=json.dumps("Etc/UTC" if schedule.zone.key == "UTC" else schedule.zone.key),
        grace=max(10, int(job.grace.total_seconds())),
        limit=f"\n      activeDeadlineSeconds: {limit}" if limit else "",
        image=json.dumps(image),
        command=json.dumps(command(program or ["portabl"], job, CONFIG)),
    )
    return Artifact(f"{name}.yaml", text, f"kubectl apply -f {name}.yaml")
