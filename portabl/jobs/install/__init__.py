"""What other schedulers read: systemd units, crontab lines, Kubernetes CronJobs, Airflow DAGs. Text only; nothing is
installed here.
"""
