"""Whether the database that a URL names is there to be used, asked before a library tries for minutes."""

import logging

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from study.errors import StudyError, first_line
from study.files import masked, require_sqlite

SERVERS = ("postgresql", "mysql", "mssql")
"""The kinds of database that a server keeps, in the terms of SQLAlchemy and MLflow."""

# It warns of writes that MLflow tries again, having left out what is recorded already.
logging.getLogger("psycopg").setLevel(logging.ERROR)


def require_database(url: str) -> None:
    """Checks that a database URL names one that can be used; other URLs are not looked at.

    Raises:
        StudyError: where an SQLite file is something else, or a server does not answer or has no such database.
    """
    require_sqlite(url)
    if url.partition("://")[0].partition("+")[0] not in SERVERS:
        return
    try:
        sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect().close()
    except ImportError as error:
        raise StudyError(
            f"The driver for {masked(url)} is not installed ({first_line(error)}): for PostgreSQL, "
            "`pip install 'study[postgres]'`."
        ) from None
    except SQLAlchemyError as error:
        said = first_line(getattr(error, "orig", None) or error)
        raise StudyError(f"The database {masked(url)} cannot be used: {said}.") from None
