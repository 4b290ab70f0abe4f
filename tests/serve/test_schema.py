"""OpenAPI, and requests made of it by schemathesis: whatever is sent, nothing breaks."""

from collections.abc import Iterator
from typing import Any

import pytest

from musiclm.core.bundle import Bundle
from musiclm.serve.verbs import VERBS
from tests.serve.service import Service, serving

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

OPERATIONS = (
    *VERBS,
    *("list_jobs", "job", "cancel", "events", "job_sound", "list_takes", "take", "change", "delete", "codes", "sound"),
    *("upload", "about", "health", "metrics", "sign_in"),
)


@pytest.fixture(scope="module")
def service(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("schema") / "takes"
    with serving(bundle, folder, max_duration_s=1.0, capacity=4) as running:
        yield running


@pytest.fixture(scope="module")
def schema(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_each_verb_is_one_post_with_examples(service: Service) -> None:
    told = service.client.get("/openapi.json").json()
    for name, request in VERBS.items():
        operation = told["paths"][f"/v1/{name}"]["post"]
        assert operation["operationId"] == name and operation["summary"]
        assert {"200", "202", "404", "422", "429"} <= set(operation["responses"])
        assert {"audio/wav", "audio/flac", "audio/ogg"} <= set(operation["responses"]["200"]["content"])
        model = told["components"]["schemas"][request.__name__]
        assert model["examples"] and all(request.model_validate(example) for example in model["examples"])
        assert all("description" in field or name == "prompt" for name, field in model["properties"].items())
    operations = {each["operationId"] for path in told["paths"].values() for each in path.values()}
    assert operations == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_that_is_sent_breaks_it(schema: Any, service: Service, operation: str) -> None:
    """No 5xx, and no answer that the schema does not tell of, for requests that fit it and for those that do not."""
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    told = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    told += [checks.response_schema_conformance, checks.negative_data_rejection]
    named = schema.find_operation_by_id(operation)
    take = service.made("generate", duration_s=0.5)["id"]
    job = service.client.get("/v1/jobs").json()["jobs"][-1]["id"]
    there = {"path_parameters": {"id": job if "/jobs/" in named.path else take}} if "{id}" in named.path else {}
    fitting, wrong = named.as_strategy(), named.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    strategies = [fitting, wrong, named.as_strategy(**there)] if there else [fitting, wrong]
    seen = set()

    @hypothesis.settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=hypothesis.strategies.one_of(strategies))
    def sent(case: Any) -> None:
        answer = case.call(timeout=30)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=told)

    sent()
    assert seen
