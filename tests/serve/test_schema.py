"""Whatever the description allows is answered as it says, and nothing ends in status 500."""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.checks import (  # noqa: E402
    not_a_server_error,
)
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from imgret.serve import Site, create_app  # noqa: E402

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", [False, True])
def test_the_api_is_as_described(made, tmp_path, write):
    site = Site(made, write=write)
    app = create_app(site, hosts=["testserver"])
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    asked = 0
    try:
        for found in schema.get_all_operations():
            operation = found.ok()

            @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def answered(case):
                case.call_and_validate(checks=CHECKS, timeout=60)

            answered()
            asked += 1
    finally:
        site.close()
    assert asked == sum(len(methods) for methods in schema.raw_schema["paths"].values())
