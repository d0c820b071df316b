"""Configuration of buckets: read from real servers, classed, applied only on request, read back."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from kit.hazards import snapshot
from kit.servers import S3Server
from shell import Result, Shell, shell

from portabl import bucket_config
from portabl.bucket_config import Change, Class
from portabl.cli import bucket_config as command
from portabl.cli.app import run
from portabl.model import Setting

CORS = {"CORSRules": [{"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://a.example"], "MaxAgeSeconds": 60}]}
RULE = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 30}}
WEBSITE = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "404.html"}}
LOCK = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
ENCRYPTION = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
QUEUE = {
    "QueueConfigurations": [{"Id": "q", "QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": ["s3:ObjectCreated:*"]}]
}


def _policy(bucket: str, principal: Any = "*") -> dict[str, Any]:
    allow = {"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject"}
    return {"Version": "2012-10-17", "Statement": [{**allow, "Resource": f"arn:aws:s3:::{bucket}/public/*"}]}


def _change(name: str, source: Any, target: Setting | None = None, given: Any = None) -> Change:
    return bucket_config._change(name, Setting(name, source), target or Setting(name), ("old-b", "new-b"), given)


@pytest.mark.parametrize(
    ("name", "value", "kind", "word"),
    [
        ("versioning", {"Status": "Enabled"}, Class.CARRIED, ""),
        ("versioning", {"Status": "Suspended", "MFADelete": "Enabled"}, Class.ADAPT, "MFA"),
        ("encryption", ENCRYPTION, Class.CARRIED, ""),
        (
            "encryption",
            {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:k"}}]},
            Class.ADAPT,
            "arn:k",
        ),
        ("tags", {"TagSet": [{"Key": "a", "Value": "b"}]}, Class.CARRIED, ""),
        ("tags", {"TagSet": [{"Key": "aws:x", "Value": "b"}]}, Class.ADAPT, "aws:x"),
        ("cors", CORS, Class.CARRIED, ""),
        ("website", WEBSITE, Class.CARRIED, ""),
        ("lifecycle", {"Rules": [RULE]}, Class.CARRIED, ""),
        (
            "lifecycle",
            {"Rules": [{**RULE, "Transitions": [{"Days": 3, "StorageClass": "GLACIER"}]}]},
            Class.ADAPT,
            "GLACIER",
        ),
        (
            "lifecycle",
            {"Rules": [{**RULE, "NoncurrentVersionTransitions": [{"StorageClass": "STANDARD_IA"}]}]},
            Class.ADAPT,
            "STANDARD_IA",
        ),
        ("lifecycle", {"Rules": [{**RULE, "Expiration": {"Date": "2020-01-01"}}]}, Class.ADAPT, "2020-01-01"),
        ("policy", _policy("old-b"), Class.CARRIED, ""),
        ("policy", _policy("old-b", {"AWS": ["*", "arn:aws:iam::12:root"]}), Class.ADAPT, "arn:aws:iam::12:root"),
        ("notifications", QUEUE, Class.ADAPT, "arn:aws:sqs:us-east-1:1:q"),
        ("object-lock", LOCK, Class.NOT, "when a bucket is made"),
    ],
)
def test_classes(name: str, value: Any, kind: Class, word: str) -> None:
    change = _change(name, value)
    assert change.kind is kind
    assert word in " ".join(change.reasons)
    assert (change.kind is Class.CARRIED) == (not change.reasons)


def test_resources_of_a_policy_follow_the_bucket_and_nothing_else_does() -> None:
    policy = _policy("old-b")
    policy["Statement"][0]["Resource"] = ["arn:aws:s3:::old-b", "arn:aws:s3:::old-b/x", "arn:aws:s3:::old-b2/x"]
    proposed = _change("policy", policy).proposed
    assert proposed["Statement"][0]["Resource"] == [
        "arn:aws:s3:::new-b",
        "arn:aws:s3:::new-b/x",
        "arn:aws:s3:::old-b2/x",
    ]
    assert _change("policy", _policy("old-b"), Setting("policy", _policy("new-b"))).kind is Class.SAME


def test_what_cannot_be_told_is_never_carried_in_silence() -> None:
    assert _change("cors", CORS, Setting("cors", problem="NotImplemented")).kind is Class.NOT
    unread = bucket_config._change("cors", Setting("cors", problem="AccessDenied"), Setting("cors"), ("a", "b"), None)
    assert (unread.kind, "AccessDenied" in unread.reasons[0]) == (Class.NOT, True)
    assert _change("cors", None).kind is Class.ABSENT


def test_a_document_of_the_users_own_replaces_what_cannot_be_carried() -> None:
    change = _change("notifications", QUEUE, given={"TopicConfigurations": []})
    assert (change.kind, change.proposed) == (Class.CARRIED, {"TopicConfigurations": []})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (
            {"Rules": [{"Status": "Enabled", "Prefix": "a"}]},
            {"Rules": [{"Status": "Enabled", "Filter": {"Prefix": "a"}}]},
            True,
        ),
        ({"Action": ["s3:GetObject"]}, {"Action": "s3:GetObject"}, True),
        ({"A": ["x", "y"]}, {"A": ["y", "x"]}, True),
        ({"A": ["x", "y"]}, {"A": ["x"]}, False),
        ({"Days": 3}, {"Days": 4}, False),
        ({"On": False}, {}, True),
        ({"Days": 0}, {}, False),
    ],
)
def test_equal(one: Any, other: Any, same: bool) -> None:
    assert bucket_config.equal(one, other) is same


def test_the_command_knows_the_same_names() -> None:
    assert command._NAMES == bucket_config.NAMES


def _configured(server: S3Server, *, lock: bool) -> str:
    """A bucket with everything that this server takes."""
    s3, bucket = server.client(), server.bucket()
    if lock:
        bucket += "-l"
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=LOCK)
    else:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "team", "Value": "grün"}]})
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration=CORS)
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(_policy(bucket)))
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [RULE]})
    if server.name.startswith("moto"):
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=WEBSITE)
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=ENCRYPTION)
    return bucket


def _yard(folder: Path, source: S3Server, target: S3Server) -> Shell:
    here = shell(folder, source.environment, target.environment)
    here.configure(source.provider_toml("old"), target.provider_toml("new"))
    return here


def _inside(here: Shell, *words: str, **more: str) -> Result:
    """The command line in this process: many calls, and no interpreter to start for each."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(here.folder)
        for name, value in {**here.environment, **more}.items():
            patch.setenv(name, value)
        code = run(["bucket-config", *words])
    return Result(code, out.getvalue(), err.getvalue())


def _kinds(here: Shell, *words: str) -> tuple[int, dict[str, Any]]:
    done = _inside(here, *words, "--json")
    assert done.code in (0, 3), done.err
    return done.code, {row["name"]: row for row in done.document["changes"]}


@pytest.mark.parametrize(
    ("source_name", "target_name", "lock"),
    [("moto", "moto2", False), ("moto", "moto2", True), ("rgw", "rgw", False), ("moto", "rgw", True)],
)
def test_carried_between_servers(
    source_name: str, target_name: str, lock: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, target = request.getfixturevalue(source_name), request.getfixturevalue(target_name)
    bucket = _configured(source, lock=lock)
    into = target.bucket("t") + "-l"
    target.client().create_bucket(Bucket=into, ObjectLockEnabledForBucket=lock)
    here = _yard(tmp_path, source, target)
    places = (f"old:{bucket}", f"new:{into}")
    before = bucket_config_of(target, into)

    code, shown = _kinds(here, "show", *places)
    carried = {name for name, row in shown.items() if row["class"] == "carried"}
    assert {"tags", "cors", "policy", "lifecycle"} <= carried
    assert ("object-lock" in carried) == lock
    assert lock or "versioning" in carried
    assert code == (3 if any(row["reasons"] for row in shown.values()) else 0)
    plain = _inside(here, "apply", *places)
    assert "nothing was written" in plain.err
    assert "+++ proposed" in plain.out
    assert bucket_config_of(target, into) == before, "written without being asked to"

    _kinds(here, "apply", *places, "--yes", "--only", "tags")
    assert target.client().get_bucket_tagging(Bucket=into)["TagSet"] == [{"Key": "team", "Value": "grün"}]
    applied = _kinds(here, "apply", *places, "--yes")[1]
    missing = {"website", "encryption"} if target.name == "rgw" else set()  # not switched on there
    assert {name for name, row in applied.items() if row["problem"]} <= missing, applied
    assert {name for name, row in applied.items() if row["applied"]} >= carried - missing - {"tags"}
    after = _kinds(here, "show", *places)[1]
    assert {name for name, row in after.items() if row["class"] == "same"} >= carried - missing
    if source.name.startswith("moto") and target.name.startswith("moto"):
        assert target.client().get_bucket_website(Bucket=into)["ErrorDocument"] == {"Key": "404.html"}
    policy = json.loads(target.client().get_bucket_policy(Bucket=into)["Policy"])
    assert policy["Statement"][0]["Resource"].endswith(f":::{into}/public/*")


def bucket_config_of(server: S3Server, bucket: str) -> dict[str, Any]:
    """What boto3 says of some settings, for comparing before and after."""
    from botocore.exceptions import ClientError

    found: dict[str, Any] = {}
    for call in ("get_bucket_tagging", "get_bucket_cors", "get_bucket_policy", "get_bucket_lifecycle_configuration"):
        try:
            answer = getattr(server.client(), call)(Bucket=bucket)
            found[call] = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        except ClientError as error:
            found[call] = error.response["Error"]["Code"]
    found["objects"] = snapshot(server, bucket)
    return found


def test_a_setting_the_target_changes_is_named(moto: S3Server, rgw: S3Server, tmp_path: Path) -> None:
    """Nothing is called applied because a store said 200: it is read back."""
    here = _yard(tmp_path, moto, rgw)
    bucket, into = moto.bucket(), rgw.bucket()
    document = tmp_path / "cors.json"
    document.write_text(json.dumps({"CORSRules": [{"AllowedMethods": ["FETCH"], "AllowedOrigins": ["*"]}]}))
    words = ("apply", f"old:{bucket}", f"new:{into}", "--yes", "--use", f"cors={document}")
    code, rows = _kinds(here, *words)
    assert code == 3
    assert (rows["cors"]["applied"], bool(rows["cors"]["problem"])) == (False, True)


def test_a_poor_target_is_told_and_nothing_is_believed(moto: S3Server, seaweed: S3Server, tmp_path: Path) -> None:
    bucket, into = _configured(moto, lock=False), seaweed.bucket()
    here = _yard(tmp_path, moto, seaweed)
    code, rows = _kinds(here, "apply", f"old:{bucket}", f"new:{into}", "--yes")
    assert code == 3
    for name, row in rows.items():
        if row["applied"]:
            setting = _kinds(here, "show", f"old:{bucket}", f"new:{into}")[1][name]
            assert setting["class"] == "same", name
    assert rows["website"]["problem"] or rows["website"]["class"] == "cannot be carried"


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (("show", "./x"), 2, "no bucket"),
        (("show", "old:nowhere-at-all"), 6, "no bucket"),
        (("apply", "old:{}", "old:{}", "--use", "cors"), 2, "NAME=FILE"),
        (("apply", "old:{}", "old:{}", "--use", "cors=nowhere.json"), 2, "nowhere.json"),
        (("apply", "old:{}", "old:{}", "--use", "colour=x"), 2, "names:"),
    ],
)
def test_clear_errors(words: tuple[str, ...], code: int, word: str, moto: S3Server, tmp_path: Path) -> None:
    here, bucket = _yard(tmp_path, moto, moto), moto.bucket()
    _inside(here, *(one.format(bucket) for one in words)).clear(code, word)


def test_refused_credentials_are_an_error_not_a_setting(rgw: S3Server, tmp_path: Path) -> None:
    here = _yard(tmp_path, rgw, rgw)
    variables = dict.fromkeys((name for name in rgw.environment if "SECRET" in name), "wrong")
    done = _inside(here, "show", f"old:{rgw.bucket()}", **variables)
    done.clear(6, "credentials are refused")
    assert "wrong" not in done.err


def test_one_bucket_for_people(moto: S3Server, tmp_path: Path) -> None:
    here = _yard(tmp_path, moto, moto)
    done = _inside(here, "show", f"old:{_configured(moto, lock=False)}")
    assert done.code == 0
    assert '"Status": "Enabled"' in done.out
    assert "notifications: not set" in done.out
