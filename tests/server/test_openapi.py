"""The API keeps what its OpenAPI document promises, whatever Schemathesis sends."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.running import running

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
]  # fmt: skip
SETTINGS = settings(
    max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory, toy_model_folder):
    """The document of a server of its own: its queue fills, its pictures are many."""
    folder = tmp_path_factory.mktemp("described")
    with running(folder, toy_model_folder, queue=2, max_disk=0.1) as server:
        yield schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        server.drained()


def test_every_answer_is_one_that_the_document_names(api):
    tried = []
    for result in api.exclude(path_regex="/events$").get_all_operations():  # a stream has no end
        operation = result.ok()

        @SETTINGS
        @given(case=operation.as_strategy())
        def keeps_its_promise(case):
            case.call_and_validate(checks=CHECKS)

        keeps_its_promise()
        tried.append(operation.label)
    assert len(tried) > 10, tried
