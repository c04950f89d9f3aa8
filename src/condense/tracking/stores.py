"""MLflow's stores: which one a setting names, whether it can be used, and where its artifacts lie."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.files.artifacts import whole

DEFAULT_STORE = "sqlite:///mlflow.db"
PATIENCE = 10  # seconds for the first answer of a server
# MLflow asks a silent server again for many minutes. The files stay and can be ingested at any time, so this
# gives up soon.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_ERRORS_OF = (
    "mlflow",
    "requests",
    "urllib3",
    "sqlalchemy",
    "alembic",
    "sqlite3",
    "psycopg2",
    "pymysql",
    "MySQLdb",
)
_SQLITE = b"SQLite format 3\0"
_DATABASES = ("postgresql", "mysql", "mssql")
_OFF = ("off", "none", "no", "false", "")
_ON = ("on", "yes", "true")


def named_store(setting: object = True) -> str | None:
    """The store that a setting names: an address, or on (MLFLOW_TRACKING_URI, else `mlflow.db` in this
    folder), or off (None)."""
    text = "" if setting is None else str(setting).strip()
    if text.lower() in _OFF:
        return None
    if text.lower() in _ON:
        return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    if "://" not in text and ":" not in text:
        raise UserError(
            f"MLflow store '{text}': name a database as "
            f"sqlite:///{text if text.endswith('.db') else 'mlflow.db'}, a server as http://HOST:PORT, or off"
        )
    return text


def is_server(store: str) -> bool:
    """Whether a store is reached over HTTP."""
    return store.startswith(("http://", "https://"))


def database_file(store: str) -> Path | None:
    """The file of an SQLite store; None for others."""
    return (
        Path(store.removeprefix("sqlite:///").partition("?")[0]) if store.startswith("sqlite:///") else None
    )


def artifacts_beside(store: str) -> Path | None:
    """Where the artifacts of a local store lie unless said otherwise: in a folder beside its file. A server
    keeps them itself."""
    file = database_file(store)
    return file.parent / "mlartifacts" if file else None if is_server(store) else Path("mlartifacts")


@contextmanager
def explained(store: str) -> Iterator[None]:
    """Turns what MLflow, a database and the connection to a server raise into one message; the files are only
    read, so nothing is lost."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        driver = isinstance(error, ImportError) and not str(error.name).startswith(("mlflow", "condense"))
        # MLflow may be absent, and importing it to name its errors takes seconds.
        if not driver and not any(
            kind.__module__.partition(".")[0] in _ERRORS_OF for kind in type(error).__mro__
        ):
            raise
        told = " ".join(str(error).split())[:300]
        raise unusable(store, f"its driver is not installed ({told})" if driver else told) from None


def unusable(store: str, why: str) -> UserError:
    """The error of a store that cannot be used now, in words that leave no doubt about the results."""
    return UserError(
        f"MLflow store {store}: {why}; the results are unharmed: run the same command again when the store "
        "can be used"
    )


def check(store: str) -> None:
    """Raises UserError, within seconds, if the store cannot be used; MLflow itself would try for minutes."""
    file = database_file(store)
    with explained(store):
        if file:
            _check_file(store, file)
        elif store.startswith("sqlite"):
            raise unusable(
                store,
                f"names no file, so that all would be lost at the end; name one, such as {DEFAULT_STORE}",
            )
        elif is_server(store):
            _check_server(store)
        elif store.split(":")[0].split("+")[0] in _DATABASES:
            _check_database(store)


def _check_file(store: str, file: Path) -> None:
    if file.name in ("", ":memory:"):
        raise unusable(store, f"names no file; name one, such as {DEFAULT_STORE}")
    if file.is_dir():
        raise unusable(store, "is a folder; name a file in it")
    if file.exists() and not file.is_file():
        raise unusable(store, "is a pipe or a device; name a plain file")  # the first would be waited for
    away = "move it away, and a new one is filled from the results"
    try:
        with open(file, "rb") as opened:
            start = opened.read(len(_SQLITE))
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable(store, f"cannot be read: {error.strerror}") from None
    if start != _SQLITE:
        raise unusable(store, f"is damaged or no database: {away}")
    try:
        with closing(sqlite3.connect(file, timeout=PATIENCE)) as database:
            tables = {
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            sound = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise unusable(store, str(error)) from None
    except sqlite3.DatabaseError as error:
        raise unusable(store, f"is damaged ({error}): {away}") from None
    if sound != "ok":
        raise unusable(store, f"is damaged ({sound.splitlines()[-1]}): {away}")
    if "experiments" not in tables:
        raise unusable(store, f"is no database of MLflow: {away}")


def _check_server(store: str) -> None:
    import requests

    try:
        requests.get(f"{store.rstrip('/')}/health", timeout=PATIENCE)
    except requests.Timeout:
        raise unusable(store, f"the server does not answer within {PATIENCE} seconds") from None
    except requests.exceptions.SSLError:
        return  # MLflow has settings of its own for certificates
    except requests.ConnectionError as error:
        refused = "refused" in str(error)
        raise unusable(
            store, "the server cannot be reached" + (" (connection refused)" if refused else "")
        ) from None


def _check_database(store: str) -> None:
    import socket

    import sqlalchemy

    address = sqlalchemy.make_url(store)
    address.get_dialect().import_dbapi()
    ports = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
    if address.host:
        try:
            socket.create_connection(
                (address.host, address.port or ports[address.get_backend_name()]), PATIENCE
            ).close()
        except OSError as error:
            raise unusable(store, f"the database cannot be reached ({error})") from None
    engine = sqlalchemy.create_engine(address)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def connect(store: str) -> Any:
    """A client of the store, whose database is made whole or not at all.

    Raises UserError if MLflow is not installed or the store cannot be used.
    """
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")  # read when MLflow is imported
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    check(store)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise UserError(
            "MLflow is not installed: run 'make env', or install the extra 'workflow' of condense"
        ) from None
    for name, level in (
        ("mlflow.store.db.utils", logging.WARNING),
        ("alembic", logging.WARNING),
        ("urllib3", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)
    file = database_file(store)
    if file and not file.exists():
        # MLflow makes its tables one after another and cannot go on from half of them.
        try:
            with whole(file.absolute()) as draft:
                # MLflow's own, which is empty
                for made in MlflowClient(f"sqlite:///{draft}").search_experiments():
                    folder = file.parent / "mlartifacts" / made.name
                    place_artifacts(draft, made.experiment_id, made.artifact_location, str(folder))
        except OSError as error:
            raise unusable(store, f"{error.filename or file}: {error.strerror}") from None
    return MlflowClient(store)


def place_artifacts(file: Path, experiment_id: str, before: str, wanted: str) -> None:
    """Writes where the artifacts of an experiment lie: as MLflow would, but relative to the folder of the
    database where this is.

    MLflow makes every path absolute, so that a folder that is moved would lose its artifacts, or write them
    where it was.
    """
    there = Path(before.removeprefix("file://"))
    if before == wanted or (there.is_dir() and there.resolve() != Path(wanted).resolve()):
        return
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as database, database:
        moved = (wanted, len(before) + 1, experiment_id, before, len(before))
        database.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ? AND ? = "
            "substr(artifact_uri, 1, ?)",
            moved,
        )
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (wanted, experiment_id)
        )
