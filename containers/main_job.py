"""The main job on containers that run: a catalog through Airflow, a nightly batch, and the served reports compared with its recomputation.

`docker compose exec -T airflow-scheduler python - FOLDER < containers/main_job.py`, with the files of `tidemark.ingest.generate` in FOLDER.
Exit status 1 if a run fails, or a served number differs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tidemark.local.runs import ENDED, Airflow
from tidemark.rendering.verifications import render_verification
from tidemark.serving import publications, verifications
from tidemark.serving.database import connect, database_of
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag


def main() -> int:
    of, folder = settings(), Path(sys.argv[1])
    products = sorted(folder.glob("products_*.csv"))
    catalog: dict[str, Any] = {
        "products": [str(one) for one in products],
        "categories": [str(folder / "categories.csv")],
        "observed_at": [one.stem.removeprefix("products_") for one in products],
    }
    with Airflow(of) as airflow:
        for dag, conf in ((Dag.INGEST, catalog), (Dag.NIGHTLY_BATCH, {})):
            run = airflow.trigger(conf, dag)
            while (state := airflow.state(run, dag)) not in ENDED:
                time.sleep(1)
            sys.stdout.write(f"{airflow.name(dag)}: {state}\n")
            if state != "success":
                sys.stdout.write(f"{airflow.failure(run, dag)}\n")
                return 1
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        found = verifications.read(database, publications.served(database))
    sys.stdout.write("".join(f"{line}\n" for line in render_verification(found)))
    return 1 if found["drift"] else 0


if __name__ == "__main__":
    sys.exit(main())
