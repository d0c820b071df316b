"""The listing of all versions: complete and in order, page by page, or refused; and versions written exactly once."""

from __future__ import annotations

import pytest
from kit.s3_opened import body, opened
from kit.servers import S3Server
from kit.versions import items, listed, set_versioning, versioned

from portabl.errors import Changed, ListingBroken, Refused
from portabl.model import Entry, Metadata
from portabl_adapters.s3 import versions
from portabl_adapters.s3.replies import Unreadable, VersionPage
from portabl_adapters.s3.replies import versions as read_page

Shown = list[tuple[str, str, bool, int]]


def fill(server: S3Server) -> str:
    """A bucket with histories that pages of any size cut."""
    bucket, client = versioned(server), server.client()
    for key, moves in {"a": "pppdpdd", "a-b": "p", "a/b": "pd", "b": "dp", "é +%": "pp"}.items():
        for move in moves:
            if move == "p":
                client.put_object(Bucket=bucket, Key=key, Body=b"x")
            else:
                client.delete_object(Bucket=bucket, Key=key)
    return bucket


def shown(entries: list[Entry]) -> Shown:
    return [(entry.key.decode(), entry.version, entry.delete_marker, entry.ordinal) for entry in entries]


def expected(server: S3Server, bucket: str) -> Shown:
    """The same by boto3."""
    found: Shown = []
    oldest_first = listed(server, bucket)[::-1]
    for key, version, gone, _ in sorted(oldest_first, key=lambda item: item[0].encode()):
        ordinal = found[-1][3] + 1 if found and found[-1][0] == key else 1
        found.append((key, version, gone, ordinal))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_pages_of_any_size_show_every_version_in_order(
    size: int, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = fill(moto)
    monkeypatch.setattr(versions, "PAGE_VERSIONS", size)
    with opened(moto, bucket) as storage:
        found = list(storage.versions())
        assert shown(found) == expected(moto, bucket)
        assert list(storage.history(b"a")) == [entry for entry in found if entry.key == b"a"]
        assert list(storage.history(b"a/")) == []
    with opened(moto, bucket, b"a/") as storage:
        assert [(entry.key, entry.ordinal) for entry in storage.versions()] == [(b"b", 1), (b"b", 2)]


def test_seaweedfs_is_believed_for_one_page_and_refused_for_more(
    seaweed: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = fill(seaweed)
    with opened(seaweed, bucket) as storage:
        found = shown(list(storage.versions()))
        by_boto = {(item["Key"], item["VersionId"], gone) for item, gone in items(seaweed, bucket)}
        assert {item[:3] for item in found} == by_boto
        assert len(found) == len(by_boto) == 14
        assert [gone for key, _, gone, _ in found if key == "a"] == [False, False, False, True, False, True, True]
        monkeypatch.setattr(versions, "PAGE_VERSIONS", 3)
        with pytest.raises(ListingBroken, match="leaves versions out"):
            list(storage.versions())


def test_seaweedfs_does_not_say_which_version_is_the_latest_after_a_suspension(seaweed: S3Server) -> None:
    bucket, client = versioned(seaweed), seaweed.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"1")
    set_versioning(seaweed, bucket, "Suspended")
    client.put_object(Bucket=bucket, Key="k", Body=b"2")
    with opened(seaweed, bucket) as storage, pytest.raises(ListingBroken, match="from the latest on"):
        list(storage.versions())


def test_swift_is_believed_for_one_page_and_refused_for_more(swift: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = fill(swift)
    with opened(swift, bucket) as storage:
        assert len(list(storage.versions())) == 14
        monkeypatch.setattr(versions, "PAGE_VERSIONS", 3)
        with pytest.raises(ListingBroken, match="where it goes on"):
            list(storage.versions())


PAGE = """<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>
<NextVersionIdMarker>1</NextVersionIdMarker><Version><Key>k</Key><VersionId>1</VersionId><Size>3</Size></Version>
<DeleteMarker><Key>k</Key><VersionId>2</VersionId></DeleteMarker></ListVersionsResult>"""


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("<IsTruncated>true</IsTruncated>", ""),
        ("<VersionId>1</VersionId>", ""),
        ("<Size>3</Size>", "<Size>-3</Size>"),
        ("ListVersionsResult", "ListBucketResult"),
    ],
)
def test_a_page_that_lacks_something_is_no_page(there: str, instead: str) -> None:
    assert [entry.delete_marker for entry in read_page(PAGE.encode()).entries] == [False, True]
    with pytest.raises(Unreadable):
        read_page(PAGE.replace(there, instead).encode())


def test_a_version_goes_on_top_of_the_one_that_was_named_or_nowhere(moto: S3Server) -> None:
    with opened(moto, versioned(moto)) as storage:
        first = storage.append(b"k", body(b"1"), Metadata(user={"a": "b"}), "")
        second = storage.append(b"k", None, Metadata(), first.version)
        third = storage.append(b"k", body(b"1"), Metadata(), second.version)
        assert [entry.version for entry in storage.history(b"k")] == [first.version, second.version, third.version]
        assert storage.look(Entry(b"k", 1, version=first.version)).metadata.user == {"a": "b"}
        storage.take_back(b"k", third.version)
        assert [entry.delete_marker for entry in storage.history(b"k")] == [False, True]
        assert storage.keeps_versions()


@pytest.mark.parametrize("status", ["", "Suspended"])
def test_no_version_is_appended_where_none_is_kept(status: str, moto: S3Server) -> None:
    bucket = versioned(moto, status) if status else moto.bucket()
    with opened(moto, bucket) as storage:
        assert not storage.keeps_versions()
        with pytest.raises((Refused, Changed)):
            storage.append(b"k", body(b"1"), Metadata(), "")


@pytest.mark.parametrize("name", ["moto", "seaweed", "swift"])
def test_a_bucket_that_never_had_versions_has_one_of_each(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket = server.bucket()
    with opened(server, bucket) as storage:
        assert list(storage.versions()) == []
        for key in ("a", "b/c"):
            server.client().put_object(Bucket=bucket, Key=key, Body=b"x")
        found = list(storage.versions())
        assert [(entry.key, entry.ordinal, entry.version) for entry in found] == [
            (b"a", 1, "null"),
            (b"b/c", 1, "null"),
        ]
        assert bytes(storage.read(found[0]).data) == b"x"


def test_objects_without_versions_are_no_empty_history(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="k", Body=b"x")
    monkeypatch.setattr(versions, "entries", lambda *_: iter(()))
    with opened(moto, bucket) as storage, pytest.raises(ListingBroken, match="no version of any"):
        list(storage.versions())


@pytest.mark.parametrize(
    ("keys", "taken"), [([b"a", b"b"], 1), ([b"a", b"a\0"], 0), ([b"a"], 0), ([b"a", b"a ", b"c"], 2)]
)
def test_a_page_of_null_delete_markers_is_gone_on_between_its_last_two_keys(keys: list[bytes], taken: int) -> None:
    entries = [Entry(key, 0, version="null", delete_marker=True) for key in keys]
    page = VersionPage(entries, [True] * len(keys), truncated=True, marker=((keys[-1],), "null"))
    assert versions._keys_end(page) == taken
