"""What a DAG's parameters take and refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

Values = Mapping[str, Iterable[Any]]  # by parameter


def assert_accepts(dag: Any, valid: Values, invalid: Values) -> None:
    """Each parameter takes these values as they are and refuses those; without any the run is valid. Leaves the last ones in the DAG."""
    from airflow.sdk.exceptions import ParamValidationError

    assert set(dag.params) == set(valid) == set(invalid)
    dag.params.validate()
    for name, values in valid.items():
        assert [dag.params.get_param(name).resolve(value) for value in values] == values
    for name, values in invalid.items():
        for value in values:
            with pytest.raises(ParamValidationError):
                dag.params.get_param(name).resolve(value)
