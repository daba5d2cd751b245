"""Drives the fake with botocore, and checks what botocore makes of it.

Called with the endpoint of the region us-east-1 and the URL of the control endpoint; exits with 0 if all is as it
should be.
"""

import json
import sys
import urllib.request

import boto3
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch, InvalidPayloadLength
from botocore.exceptions import ClientError, EventStreamError
from urllib3.exceptions import HTTPError

ENDPOINT, CONTROL = sys.argv[1:]
MODEL = "us.amazon.nova-lite-v1:0"
TOOLS = {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": {"type": "object"}}}}]}
STATUS = {
    "ThrottlingException": 429,
    "ServiceQuotaExceededException": 400,
    "ModelNotReadyException": 429,
    "ServiceUnavailableException": 503,
    "InternalServerException": 500,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ConflictException": 400,
    "UnrecognizedClientException": 403,
    "ExpiredTokenException": 403,
    "InvalidSignatureException": 403,
}

client = boto3.client(
    "bedrock-runtime",
    region_name="us-east-1",
    endpoint_url=ENDPOINT,
    aws_access_key_id="AKIDEXAMPLE",
    aws_secret_access_key="secret",
    config=Config(retries={"total_max_attempts": 1}, read_timeout=10),
)


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(CONTROL + path, data=data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)


def behave(**behaviour):
    control("POST", "/region/us-east-1", behaviour)


def prompt(text, **members):
    return {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": text}]}], **members}


def hear(text="hi", **members):
    """The kinds of the events, the text, the tool's input, the last stop reason and usage, and the error, if any."""
    heard = {"kinds": [], "text": "", "input": "", "reasoning": "", "stop": None, "usage": None, "error": None}
    try:
        for event in client.converse_stream(**prompt(text, **members))["stream"]:
            ((kind, value),) = event.items()
            heard["kinds"].append(kind)
            delta = value.get("delta", {})
            heard["text"] += delta.get("text", "")
            heard["input"] += delta.get("toolUse", {}).get("input", "")
            heard["reasoning"] += delta.get("reasoningContent", {}).get("text", "")
            heard["stop"] = value.get("stopReason", heard["stop"])
            heard["usage"] = value.get("usage", heard["usage"])
    except (EventStreamError, ChecksumMismatch, InvalidPayloadLength, HTTPError) as error:
        heard["error"] = error
    return heard


def check(seen, expected, what):
    assert seen == expected, f"{what}: {seen!r} is not {expected!r}"


def answers():
    behave()
    answer = client.converse(**prompt("good morning"))
    said = answer["output"]["message"]["content"][0]["text"]
    check(said, f'Hello from {MODEL} in us-east-1: you said "good morning"', "echo")
    check(answer["usage"], {"inputTokens": 2, "outputTokens": 9, "totalTokens": 11}, "usage")
    assert answer["ResponseMetadata"]["RequestId"] and "latencyMs" in answer["metrics"]
    heard = hear("good morning")
    check(heard["text"], said, "text of a stream")
    check(heard["usage"], {"inputTokens": 2, "outputTokens": 9, "totalTokens": 11}, "usage of a stream")
    check(heard["kinds"][0], "messageStart", "first event")
    check(heard["kinds"][-3:], ["contentBlockStop", "messageStop", "metadata"], "last events")

    behave(coalesce=True, text="grüße", chunk_bytes=1, reasoning="let me think")
    heard = hear()
    check((heard["text"], heard["reasoning"], heard["error"]), ("grüße", "let me think", None), "coalesced")

    behave()
    wish = 'use tool get_weather {"city": "Paris"}'
    heard = hear(wish, toolConfig=TOOLS)
    check((heard["input"], heard["stop"]), ('{"city": "Paris"}', "tool_use"), "tool of a stream")
    call = client.converse(**prompt(wish, toolConfig=TOOLS))["output"]["message"]["content"][1]["toolUse"]
    check((call["name"], call["input"]), ("get_weather", {"city": "Paris"}), "tool")

    guardrail = {"guardrailIdentifier": "gr-1", "guardrailVersion": "1", "trace": "enabled"}
    answer = client.converse(**prompt("a forbidden word", guardrailConfig=guardrail))
    check(answer["stopReason"], "guardrail_intervened", "guardrail")
    assert "gr-1" in answer["trace"]["guardrail"]["inputAssessment"]
    check(hear("a forbidden word", guardrailConfig=guardrail)["stop"], "guardrail_intervened", "guardrail")


def exceptions():
    for name, status in STATUS.items():
        behave(fail={"error": name, "message": "as scripted"})
        for call in (client.converse, client.converse_stream):
            try:
                call(**prompt("hi"))
            except ClientError as error:
                check(error.response["Error"], {"Code": name, "Message": "as scripted"}, name)
                check(error.response["ResponseMetadata"]["HTTPStatusCode"], status, name)
            else:
                raise AssertionError(f"{name} is no error")


def breaks():
    for name in (
        "internalServerException",
        "modelStreamErrorException",
        "validationException",
        "throttlingException",
        "serviceUnavailableException",
    ):
        behave(text="one two", in_stream={"error": name, "after_events": 2, "message": "as scripted"})
        heard = hear()
        check(heard["text"], "one ", name)
        assert isinstance(heard["error"], EventStreamError), heard
        check(heard["error"].response["Error"]["Code"], name, name)
        check(heard["error"].response["Error"]["Message"], "as scripted", name)
    for name, kind in (
        ("unmodelled_error", EventStreamError),
        ("cut", HTTPError),
        ("cut_inside_frame", HTTPError),
        ("bad_checksum", ChecksumMismatch),
        ("bad_prelude_checksum", ChecksumMismatch),
        ("absurd_length", InvalidPayloadLength),
    ):
        behave(text="one two", in_stream={"error": name, "after_events": 2})
        heard = hear()
        assert isinstance(heard["error"], kind), (name, heard)
        check(heard["text"], "one ", name)
    behave(text="one two", in_stream={"error": "end_without_stop"})
    heard = hear()
    check((heard["text"], heard["stop"], heard["error"]), ("one two", None, None), "end_without_stop")
    behave(text="one two", in_stream={"error": "end_without_metadata"})
    heard = hear()
    check((heard["stop"], heard["usage"], heard["error"]), ("end_turn", None, None), "end_without_metadata")


def counts():
    (last,) = control("GET", "/requests?last=1")
    check(last["headers"]["authorization"], "AWS4-HMAC-SHA256 AKIDEXAMPLE", "authorization")
    outcomes = control("GET", "/counts")["regions"]["us-east-1"]["outcomes"][MODEL]
    for name in STATUS:
        check(outcomes["converse"][name], 1, name)
    for name in ("throttlingException", "cut", "bad_checksum", "end_without_stop"):
        check(outcomes["converse_stream"][name], 1, name)


answers()
exceptions()
breaks()
counts()
print("botocore accepts it")
