"""SQLAlchemy's dialect compliance suite, the part that reads."""

from sqlalchemy.testing.suite import *  # noqa: F403
