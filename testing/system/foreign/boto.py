"""boto3, asked by the tests: a question a line on standard input, its answer a line on standard output.

A question is {"client": settings, "operation": name, "arguments": {...}}; settings are those of `runtime` below. The
answer is {"answer": ...} or {"error": ...}; the events of a stream are in "events" either way.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

CLIENTS = {}


def runtime(settings):
    key = json.dumps(settings, sort_keys=True)
    if key not in CLIENTS:
        CLIENTS[key] = boto3.client(
            "bedrock-runtime",
            region_name=settings.get("region", "us-east-1"),
            endpoint_url=settings["endpoint_url"],
            aws_access_key_id=settings.get("access_key_id"),
            aws_secret_access_key=settings.get("secret_access_key"),
            aws_session_token=settings.get("session_token"),
            verify=settings.get("verify"),
            config=Config(
                retries={"total_max_attempts": settings.get("attempts", 1)}, read_timeout=20, connect_timeout=5
            ),
        )
    return CLIENTS[key]


def with_bytes(value):
    """JSON has no bytes: they come as {"$bytes": base64}."""
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return {key: with_bytes(member) for key, member in value.items()}
    if isinstance(value, list):
        return [with_bytes(member) for member in value]
    return value


def told(error, client):
    answer = {"raised": type(error).__name__, "text": str(error), "stream_error": isinstance(error, EventStreamError)}
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        modelled = getattr(client.exceptions, code, None) if code[:1].isupper() else None
        metadata = error.response.get("ResponseMetadata", {})
        answer.update(
            code=code,
            message=error.response["Error"]["Message"],
            modelled=modelled is not None and isinstance(error, modelled),
            status=metadata.get("HTTPStatusCode"),
            headers=metadata.get("HTTPHeaders"),
            retries=metadata.get("RetryAttempts"),
        )
    return answer


def answer(question):
    client = runtime(question["client"])
    events = []
    try:
        result = getattr(client, question["operation"])(**with_bytes(question["arguments"]))
        stream = result.pop("stream", None)
        for event in stream or []:
            events.append(event)
        return {"answer": result, "events": events}
    except Exception as error:
        return {"error": told(error, client), "events": events}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)), default=repr), flush=True)
