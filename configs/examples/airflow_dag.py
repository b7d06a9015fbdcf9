# ruff: noqa: INP001
"""A daily run in Airflow 3: the same task again goes on with what is missing, so that retries are free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="batchrun_daily",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
) as dag:
    # {{ ds }} is the day of the run: a retry finds the folder of its own day
    infer = BashOperator(
        task_id="infer",
        bash_command="batchrun run /srv/batchrun/daily.yaml -o /srv/batchrun/runs/{{ ds }} -q --fail-threshold 1%",
        append_env=True,
        execution_timeout=timedelta(hours=4),
    )
    export = BashOperator(
        task_id="export",
        bash_command="batchrun export /srv/batchrun/runs/{{ ds }} -o /srv/batchrun/answers/{{ ds }}.parquet --sorted",
    )
    infer >> export
