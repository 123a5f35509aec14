"""The part of SQLAlchemy's dialect compliance suite that reads."""

from sqlalchemy.testing.suite import *  # noqa: F403
